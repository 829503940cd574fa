"""Audits of synthetic images: copies, leaks, dead images, and how they compare to real ones."""
