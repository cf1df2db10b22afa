"""The one process that decides what runs where and when."""
