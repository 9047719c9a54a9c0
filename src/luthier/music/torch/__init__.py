"""The model in torch, for training and export."""
