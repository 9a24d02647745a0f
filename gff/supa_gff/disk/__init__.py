"""Graphs that do not fit in memory: their files, and the inputs of layers computed from them block by block."""
