"""Graph passes for ACE-Step's own modules."""
