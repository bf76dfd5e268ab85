"""Leaderboards: the literature as data, entries made from runs, and the tables that they make."""
