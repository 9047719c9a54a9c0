"""From a data set and a base model to adapters, checkpoints and a merged model."""
