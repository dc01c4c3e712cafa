"""Training: the stream of scored groups, the batch, the update, the warm start and the loop over them."""
