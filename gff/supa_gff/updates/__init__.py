"""Update rules: how a step changes the weights of a network, and what they need (optimisers, losses, caches)."""
