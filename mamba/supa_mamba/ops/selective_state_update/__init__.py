"""Steps of Mamba-1 and Mamba-2 for rows that are being generated."""
