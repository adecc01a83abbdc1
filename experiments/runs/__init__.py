"""Experiments on disk and runs in the database: begun, chosen, listed."""
