"""Weights from the trainer straight into servers' memory: a process group of torch, NCCL between GPUs.

The trainer is rank 0 and keeps the meeting place; a server's workers are ranks 1 and up.  Each server has a
group of its own, so that one that dies takes no other with it.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import torch
import torch.distributed as dist

BACKENDS = ("gloo", "nccl")


class Broadcast:
    """One end of a group: rank 0 sends what the others receive, in the same order."""

    def __init__(self, *, host: str, port: int, rank: int, size: int, backend: str, timeout_s: float) -> None:
        """Meet the others; raises torch's DistError after `timeout_s`.  Rank 0 takes a free port for 0."""
        timeout = timedelta(seconds=timeout_s)
        self._store: Any = dist.TCPStore(  # type: ignore[attr-defined]  # torch's stubs leave it out
            host, port, size, rank == 0, timeout=timeout, wait_for_workers=False
        )
        self.port = int(self._store.port)
        self._host, self._rank, self._size, self._backend = host, rank, size, backend
        self._timeout = timeout
        self._group: Any = None

    def place(self) -> dict[str, Any]:
        """What another rank needs to meet this one, but its own number."""
        return {
            "host": self._host,
            "port": self.port,
            "size": self._size,
            "backend": self._backend,
            "timeout_s": self._timeout.total_seconds(),
        }

    def meet(self) -> None:
        """Wait until all ranks are here."""
        store = dist.PrefixStore("rlvr", self._store)  # type: ignore[attr-defined]  # as above
        if self._backend == "nccl":
            options = dist.ProcessGroupNCCL.Options()
            options._timeout = self._timeout
            self._group = dist.ProcessGroupNCCL(store, self._rank, self._size, options)
        else:
            self._group = dist.ProcessGroupGloo(store, self._rank, self._size, self._timeout)

    def send(self, tensors: Iterable[torch.Tensor]) -> None:
        """From rank 0 to all others."""
        for tensor in tensors:
            self._one(tensor.contiguous())

    def receive(
        self,
        names: Sequence[str],
        dtypes: Sequence[str],
        shapes: Sequence[Sequence[int]],
        device: torch.device,
    ) -> Iterator[tuple[str, torch.Tensor]]:
        """What rank 0 sends, as (name, tensor)."""
        for name, dtype, shape in zip(names, dtypes, shapes, strict=True):
            tensor = torch.empty(tuple(shape), dtype=getattr(torch, dtype), device=device)
            self._one(tensor)
            yield name, tensor

    def _one(self, tensor: torch.Tensor) -> None:
        options = dist.BroadcastOptions()
        options.rootRank, options.rootTensor = 0, 0
        self._group.broadcast([tensor], options).wait(self._timeout)


def described(weights: Sequence[tuple[str, torch.Tensor]]) -> dict[str, list[Any]]:
    """`names`, `dtypes` and `shapes` for `receive`."""
    return {
        "names": [name for name, _ in weights],
        "dtypes": [str(tensor.dtype).removeprefix("torch.") for _, tensor in weights],
        "shapes": [list(tensor.shape) for _, tensor in weights],
    }


def own_address(url: str) -> str:
    """This machine's address as the server at `url` sees it."""
    parts = urlsplit(url)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:  # nothing is sent
        probe.connect((parts.hostname or "127.0.0.1", parts.port or 80))
        return str(probe.getsockname()[0])
