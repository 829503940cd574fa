"""Data of training and evaluation: opened sources, mixing, views, batches."""
