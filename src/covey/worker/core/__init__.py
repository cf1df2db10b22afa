"""The pure state machine of the worker."""
