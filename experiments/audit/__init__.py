"""What is probably wrong with the data, said from the features that are there anyway."""
