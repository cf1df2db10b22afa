"""The client's core: what it wishes for, and how each wish stands.  Pure."""
