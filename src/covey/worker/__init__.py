"""The worker: the agent of one machine.  Never runs user code, never unpickles."""
