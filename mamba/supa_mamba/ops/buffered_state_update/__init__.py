"""Steps of Mamba-2 for generation that write the state only when a buffer of inputs is full."""
