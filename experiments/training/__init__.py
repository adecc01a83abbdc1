"""What every resumable training needs, whatever its model: schedule, checkpoints, progress."""
