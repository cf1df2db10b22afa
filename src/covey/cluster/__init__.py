"""Clusters that covey starts by itself, beginning with the local one."""
