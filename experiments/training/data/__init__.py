"""What a recipe trains on: sets whose item is a pure function of seed, epoch and index, their batches, images and maps."""
