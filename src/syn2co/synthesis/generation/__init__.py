"""Writing sets of synthetic images: generate, verify, replay, and the data card."""
