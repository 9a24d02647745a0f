"""The operations on sequences: a folder each, and the helpers that they share."""
