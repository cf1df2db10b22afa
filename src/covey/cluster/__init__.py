"""Surroundings: clusters that start schedulers and workers."""
