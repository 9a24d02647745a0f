"""What all training commands share: options, progress, table, checkpoint and resume."""
