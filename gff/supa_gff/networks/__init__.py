"""Graph networks: layers with their own scores, label-conditioned inputs, and combined predictions."""
