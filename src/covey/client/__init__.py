"""The handle in the user's process: futures, and the specs of all it wants."""
