"""Pages for people: the leaderboards, and what a run retrieved, as static files that need nothing but a browser."""
