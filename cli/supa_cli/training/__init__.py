"""Code that all training commands share: options, progress, tables, checkpoints and resuming."""
