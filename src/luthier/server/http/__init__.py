"""HTTP itself: keys, limits, bodies, errors, paths, metrics."""
