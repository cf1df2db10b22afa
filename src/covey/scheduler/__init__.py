"""The scheduler: knows keys, sizes and places, never values."""
