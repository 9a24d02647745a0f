"""Training of networks: tasks for `supa_learning.Trainer`, batches, candidate labels and validation scores."""
