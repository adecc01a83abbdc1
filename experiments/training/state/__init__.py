"""What a training keeps on disk: checkpoints on the way, parts that took long, the final weights."""
