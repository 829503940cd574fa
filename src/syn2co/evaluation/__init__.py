"""Scores of a frozen encoder: features and labels in, scores with intervals out."""
