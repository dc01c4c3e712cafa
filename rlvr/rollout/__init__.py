"""Sampling: the engines that turn prompts into groups of completions with their log-probabilities."""
