"""What of training is music: features, objective, task mix, previews."""
