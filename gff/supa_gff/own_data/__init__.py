"""A user's own graphs: files and functions, conversion to PyTorch Geometric, and checks."""
