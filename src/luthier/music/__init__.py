"""The music family, ACE-Step 1.5 and mini: requests, prompts, conditioning, schedule, graphs."""
