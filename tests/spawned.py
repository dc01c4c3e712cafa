"""Processes that stand for ranks."""

from multiprocessing import resource_tracker

import torch


def spawn(work, *arguments, count=2):
    """Run `work(rank, *arguments)` in `count` processes; Python's own process beside them ends with them."""
    torch.multiprocessing.spawn(work, arguments, nprocs=count)
    resource_tracker._resource_tracker._stop()
