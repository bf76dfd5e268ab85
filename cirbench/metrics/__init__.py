"""Metrics: pure functions on ranks, and a table of what each one is."""
