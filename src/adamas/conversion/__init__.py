"""Data of others in, and a run's data out: npz, Minari, videos, pictures."""
