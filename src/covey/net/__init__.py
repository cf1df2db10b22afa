"""Sessions over in-process pipes, unix sockets, TCP and TLS."""
