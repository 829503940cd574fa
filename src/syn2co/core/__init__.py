"""Foundations that know nothing of images or models: errors, settings, keyed randomness, files, locks, progress."""
