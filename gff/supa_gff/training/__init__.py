"""Training of networks: the tasks for `supa_learning.Trainer`, their data, candidate labels and scores."""
