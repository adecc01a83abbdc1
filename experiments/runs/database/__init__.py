"""The database of runs, derived from the folders: its tables, their rows, and making it again."""
