"""The pure state machine of the scheduler."""
