"""The record of a run on disk: metrics, completions, state; written by one trainer, read by anybody."""
