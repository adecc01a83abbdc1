"""Heads, their training, evaluation and the database of runs: everything after the features."""
