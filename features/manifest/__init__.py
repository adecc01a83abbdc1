"""The images of a data set, frozen with their splits in files that are never changed."""
