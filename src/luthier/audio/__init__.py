"""From a file to samples and back: decode, encode, resample, measure. Knows no models."""
