"""Fitting, collecting, and the trainer: the recipe."""
