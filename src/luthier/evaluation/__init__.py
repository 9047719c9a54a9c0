"""From generated audio to numbers: Fréchet distance, tempo and key adherence."""
