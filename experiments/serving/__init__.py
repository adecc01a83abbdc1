"""A trained head at work: predictions, and files for other programs."""
