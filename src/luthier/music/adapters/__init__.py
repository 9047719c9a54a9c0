"""Adapters of every spelling: read, converted, written. No torch."""
