"""Engines, which simulate showers from their primaries to their hits."""
