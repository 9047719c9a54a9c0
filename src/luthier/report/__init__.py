"""From results to one HTML page that opens offline: players, spectrograms, curves."""
