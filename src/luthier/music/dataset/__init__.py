"""Captions, styles, prompts, lyrics and rows of music data sets."""
