"""Commands that bring data in, tell of it and take it away."""
