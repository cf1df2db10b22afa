"""Hands: links between processes, over unix sockets, TCP, or within one process."""
