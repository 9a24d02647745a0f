"""Splits into training, validation and test: folds, the sets' own masks, and links."""
