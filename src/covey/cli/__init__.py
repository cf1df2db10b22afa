"""The one command, covey, and its subcommands."""
