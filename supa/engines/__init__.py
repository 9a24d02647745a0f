"""The engines: each walks showers from their primaries to their hits."""
