"""The pure state machine of the client."""
