"""Graph networks of layers with a score each: hypotheses in, scores out."""
