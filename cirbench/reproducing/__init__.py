"""Run a published result again: what it needs, whether that is here, and whether the numbers agree."""
