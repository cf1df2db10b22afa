"""Where results rest: on the heap, in shared memory, on disk."""
