"""Images: decoding and preprocessing by declared rules."""
