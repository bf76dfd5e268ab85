"""Vision-language models with an identity."""
