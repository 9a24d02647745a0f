"""The engine for NVIDIA GPUs: the showers of the engine "cpu", bit for bit."""
