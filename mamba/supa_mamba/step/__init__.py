"""One step of Mamba-1 for rows that are being generated."""
