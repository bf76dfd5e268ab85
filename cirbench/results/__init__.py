"""Results: their form on disk, and where they came from."""
