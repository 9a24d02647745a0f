"""Mixers, blocks and stacks of the sequence operations, with the parameters' names of the public mamba_ssm."""
