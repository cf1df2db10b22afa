"""What survives: each row does one bad thing to a cluster of real processes."""
