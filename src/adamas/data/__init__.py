"""Experience: frames, replay, storage, batches, and how batches are drawn."""
