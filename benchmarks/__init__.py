"""Figures worth trusting: see ``harness`` for how they are taken."""
