"""Runs: one evaluation of a method, from the configuration to the folder on disk, and predictions made elsewhere."""
