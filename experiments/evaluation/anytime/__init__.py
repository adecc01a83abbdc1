"""The score of the features that are there so far, while the rest is extracted."""
