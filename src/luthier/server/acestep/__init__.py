"""What is ACE-Step's own in the API: fields, answers, adapters, data set routes."""
