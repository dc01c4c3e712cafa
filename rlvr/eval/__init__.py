"""Evaluation: benchmarks, sampling and checking them, and what may be concluded."""
