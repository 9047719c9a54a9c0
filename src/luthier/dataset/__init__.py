"""From a folder of recordings to a checked, licensed, captioned and split data set."""
