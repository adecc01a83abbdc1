"""Heads without gradient descent: the baselines."""
