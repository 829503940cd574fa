"""What training and evaluation see: opened sources, mixing, views, batches."""
