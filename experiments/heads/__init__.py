"""Many heads trained in one pass over the features."""
