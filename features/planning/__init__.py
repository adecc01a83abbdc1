"""What extraction will take, predicted from a short run."""
