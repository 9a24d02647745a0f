"""Sum of residual and update, and its root-mean-square norm."""
