"""The language of the wire: messages, their bytes, and the handshake.  No sockets."""
