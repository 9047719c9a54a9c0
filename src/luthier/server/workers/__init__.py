"""What plays: supervised worker processes, and the engines in them."""
