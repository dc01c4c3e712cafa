"""The `rlvr` command: one file a family of commands, heavy imports inside them."""
