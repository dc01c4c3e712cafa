"""The model that learns: where it comes from, its log-probabilities, its optimizers and its checkpoints."""
