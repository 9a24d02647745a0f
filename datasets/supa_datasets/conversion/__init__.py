"""Conversions between shower files and foreign formats: one module a format, a registry, and the conversion itself."""
