"""The client: the handle in the user's process."""
