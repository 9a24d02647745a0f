"""Training of several networks at once: folds and seeds of one method whose weights are stacked in one network."""
