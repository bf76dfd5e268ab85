"""Data sets: queries, galleries, protocols, and where their files are."""
