"""Steps of Mamba-1 and Mamba-2 for slots that are being generated."""
