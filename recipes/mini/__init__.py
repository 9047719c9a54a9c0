"""mini from nothing: compose, render, fit the codec, train, export. `make mini` runs all of it
(see README.md).
"""
