"""Whatever a file of the user makes item by item, as jobs: what such a file says, what is kept of it, and what came out."""
