"""Where workers can be started: one file an executor, found by its name. See `pipeline/executor.py` for what it must offer."""
