"""Training: one loop, its data, its checkpoints."""
