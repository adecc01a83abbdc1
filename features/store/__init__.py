"""Features on disk: shards, the packed cache, and reading them back aligned with the manifest."""
