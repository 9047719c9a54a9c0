"""Graph passes of any family, and what builds and walks graphs."""
