"""What a recipe judges with: the batches of a split and the metrics of classes, of numbers and of masks."""
