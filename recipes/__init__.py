"""Commented, runnable recipes: how the things that ship with luthier were made."""
