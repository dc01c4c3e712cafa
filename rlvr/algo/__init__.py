"""The mathematics: advantages, ratios, gates, penalties and the loss, as pure functions on tensors."""
