"""Begins a training: its number, its folder and its job, or the one that the same command began before."""
