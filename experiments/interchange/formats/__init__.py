"""Formats of features for other programs: a module each, found by its name."""
