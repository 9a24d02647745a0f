"""Update rules, and the optimisers, losses and caches that they use."""
