"""A few words → a plan: facts, caption, lyrics and audio codes, by a language model."""
