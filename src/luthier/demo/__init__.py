"""The whole chain on the built-in model."""
