"""Conversions between shower files and other formats: one module per format, a registry, and the converter."""
