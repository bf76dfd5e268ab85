"""Features: a content-addressed store, and the encoder that fills it."""
