"""Autoregressive generator of showers: a sequence model with normalised densities for each hit."""
