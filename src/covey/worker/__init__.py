"""The agent of one machine: its slots, its store, its runners."""
