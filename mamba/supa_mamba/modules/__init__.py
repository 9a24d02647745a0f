"""Mixers, blocks and stacks, with the parameter names of mamba_ssm."""
