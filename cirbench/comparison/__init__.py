"""Runs compared with each other: which is better, how sure that is, and what differs between them."""
