"""Long work in child processes: training, evaluation, curation, data sets."""
