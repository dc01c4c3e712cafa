"""Ranks: the processes of one run, each with a share of the weights, of the optimizer and of the work.

    torchrun's environment -> join -> World: what all decide together   (objects, over gloo)
                                      shard: PyTorch's fully_shard       (weights and gradients: gloo, NCCL)

Every rank runs the same loop.  What one does for all goes through `World.lead`, what each does a share of
through `World.attempt`; both tell every rank where one of them failed, so that all leave by the same door.
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, fields, replace
from datetime import timedelta
from functools import wraps
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]  # made in C

from rlvr.errors import Interrupted, ModelError, RankError, RlvrError
from rlvr.policy.hearts import Hearts

T = TypeVar("T")
U = TypeVar("U")

SMALL_BYTES = 2**30
"""Weights below this are gathered in one piece and kept for all passes of an update, whose gradients are
added up once, after the last; above it layer by layer in every pass, so that no rank holds all of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """The ranks of a run as one of them sees them; by default it is the only one."""

    rank: int = 0
    """Its number."""
    count: int = 1
    """How many there are."""
    drawers: int = 1
    """The first so many of them draw completions and check them."""
    hosts: tuple[str, ...] = ()
    """Name of the machine of each; empty for one."""
    backend: str = ""
    """What carries weights and gradients: gloo or nccl."""
    device: torch.device | None = None
    """Where it carries them from."""
    group: dist.ProcessGroup | None = None
    """Carries objects, over gloo."""
    patience: timedelta | None = None
    """So long one waits for another."""
    hearts: Hearts | None = None
    """Who notices that a rank is lost."""
    listening: Callable[[], AbstractContextManager[None]] = nullcontext
    """Within its block a signal is heard at once."""

    @property
    def leads(self) -> bool:
        """Whether this rank writes the run folder and speaks to people."""
        return self.rank == 0

    @property
    def beside(self) -> int:
        """Ranks on this machine, this one included."""
        return self.hosts.count(self.hosts[self.rank]) if self.hosts else 1

    def attempt(self, work: Callable[[], T], *, heard: bool = False) -> list[T]:
        """What `work` returned on each rank; what it raised on one, every rank raises.

        Each rank must be given its turn in the same order.  A rank's own result is not copied.  `heard`: a
        signal may end the work.
        """
        if self.count == 1:
            return [work()]
        mine: tuple[T | None, RlvrError | Interrupted | None]
        try:
            with self.listening() if heard else nullcontext():
                mine = work(), None
        except (RlvrError, Interrupted) as error:
            mine = None, error
        found: list[Any] = [None] * self.count
        dist.all_gather_object(found, mine, self.group)
        found[self.rank] = mine
        for rank, (_, fault) in enumerate(found):
            if fault is not None:
                fault.teller = rank
                raise fault
        return [value for value, _ in found]

    def lead(self, work: Callable[[], T]) -> T:
        """What `work` returned on the first rank, which alone does it."""
        found: list[Any] = self.attempt(lambda: work() if self.leads else None)
        result: T = found[0]
        return result

    def lead_or(self, work: Callable[[], T], other: Callable[[], U]) -> T | U:
        """What `work` returns on the first rank, and `other` on the rest; nothing is sent."""
        found: list[Any] = []
        self.attempt(lambda: found.append(work() if self.leads else other()))
        result: T | U = found[0]
        return result

    def own(self, values: Iterable[T], rank: int | None = None) -> list[T]:
        """What `rank`, or else this one, draws of a list that is the same on all: every n-th, if n draw."""
        first = self.rank if rank is None else rank
        return list(values)[first :: self.drawers] if first < self.drawers else []

    def merged(self, shares: list[list[T]]) -> list[T]:
        """The inverse of `own`, of what `attempt` gave."""
        whole: list[Any] = [None] * sum(map(len, shares))
        for rank, share in enumerate(shares[: self.drawers]):
            whole[rank :: self.drawers] = share
        return whole

    def apart(self) -> World:
        """The same ranks on lines of their own, for another thread."""
        return (
            self
            if self.count == 1
            else replace(self, group=dist.new_group(backend="gloo", timeout=self.patience))
        )

    def agreed(self, error: RlvrError) -> RlvrError:
        """The error by which all ranks end, of those that raised one: one of them tells it."""
        if self.count == 1 or error.teller is not None:
            return error

        def fail() -> None:
            raise error

        try:
            self.attempt(fail)
        except RlvrError as chosen:
            return chosen
        return error

    def leave(self) -> None:
        """Wait until all have nothing left to do: who goes first is taken for lost, and ends the others."""
        if self.count > 1:
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)
            if self.hearts is not None:
                self.hearts.stop()
            with suppress(RuntimeError):
                dist.barrier(self.group)


ONE = World()
"""One rank: no process group, nothing shared."""


@contextmanager
def join(device: str, deadline_s: float) -> Iterator[World]:
    """Meet the other ranks, where there are others; `device` is `model.device` of the recipe.

    A rank that says nothing for `deadline_s` ends all of them.  Raises ModelError where a rank has no device,
    RankError where the others do not come.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield ONE
        return
    rank, count = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    where = _own_device(device, int(os.environ.get("LOCAL_RANK", "0")))
    backend = "gloo" if where.type == "cpu" else "nccl"
    patience = timedelta(seconds=deadline_s)
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    hosts_store = rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != str(True)

    def connect(is_master: bool = False) -> TCPStore:
        return TCPStore(address, port, None, is_master, timeout=patience, wait_for_workers=False)

    place, host = f"{address}:{port}", socket.gethostname()
    try:
        store = connect(hosts_store)
        dist.init_process_group(
            backend,
            store=PrefixStore("rlvr", store),
            rank=rank,
            world_size=count,
            timeout=patience,
            device_id=where if backend == "nccl" else None,
        )
        group = dist.new_group(backend="gloo", timeout=patience)
        hearts = Hearts(connect(), rank=rank, count=count, deadline_s=deadline_s, place=place)
    except dist.DistError as error:
        raise RankError(
            f"rank {rank} of {count} on {host} did not meet the others at {place} within {deadline_s:g} s "
            f"(run.rank_deadline): {str(error).splitlines()[0]}"
        ) from error
    world = World(
        rank=rank,
        count=count,
        drawers=count,
        backend=backend,
        device=where,
        group=group,
        patience=patience,
    )
    try:
        hearts.start()
        hosts = world.attempt(lambda: host)
        yield replace(world, hosts=tuple(hosts), hearts=hearts)
    finally:
        hearts.stop()


def _own_device(device: str, local: int) -> torch.device:
    if device not in ("auto", "cpu", "cuda"):
        raise ModelError(f"model.device = {device}: with several ranks each takes its own; use cuda or cpu.")
    if device == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    if local >= torch.cuda.device_count():
        raise ModelError(
            f"rank {local} of this machine has no GPU: {torch.cuda.device_count()} are visible; "
            "start fewer ranks here, or set model.device: cpu."
        )
    torch.cuda.set_device(local)
    return torch.device("cuda", local)


def shard(model: Any, world: World) -> Any:
    """`model` with its weights shared out over the ranks, in place (FSDP2: fully_shard, of layers or whole).

    Gradients are summed over the ranks, not averaged: each one's is its tokens' share of the step's.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import (
        FSDPModule,
        MixedPrecisionPolicy,
        fully_shard,
        register_fsdp_forward_method,
    )

    assert world.device is not None, "ranks have devices"
    mesh = init_device_mesh(world.device.type, (world.count,))
    base = base_of(model)
    # bfloat16 sums of many ranks lose what float32 keeps.
    policy = MixedPrecisionPolicy(reduce_dtype=torch.float32)
    base.is_small = sum(p.nbytes for p in base.parameters()) < SMALL_BYTES
    for layer in () if base.is_small else base.get_decoder().layers:
        fully_shard(layer, mesh=mesh, mp_policy=policy)
    fully_shard(base, mesh=mesh, mp_policy=policy)
    for part in base.modules():
        if isinstance(part, FSDPModule):
            part.set_gradient_divide_factor(1.0)
            part.set_force_sum_reduction_for_comms(True)  # gloo knows no scaled sum
    base.run_whole = _call
    register_fsdp_forward_method(base, "run_whole")
    return model


def passes(model: Any, micro_batches: Sequence[T]) -> Iterator[T]:
    """The micro-batches of an update, each for a forward and a backward pass; the last adds up gradients."""
    base = base_of(model)
    for left, micro_batch in zip(reversed(range(len(micro_batches))), micro_batches, strict=True):
        if is_shared(model) and base.is_small:
            base.set_requires_gradient_sync(left == 0)
            base.set_reshard_after_backward(left == 0)
        yield micro_batch


def base_of(model: Any) -> Any:
    """The transformers model, below an adapter if there is one."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def _call(work: Callable[[], dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    return work()


def with_whole_weights(forward: Callable[..., T]) -> Callable[..., T]:
    """Let `forward(model, ids_BT, prompt_lengths_B, lengths_B, ...)` be a forward pass of shared weights.

    It returns a dataclass of tensors [B, ...].  A rank without a row takes part all the same, since the
    others need its share of the weights: it runs a sequence of two tokens, and none of it is returned.
    """

    @wraps(forward)
    def run(
        model: Any, ids_BT: torch.Tensor, prompts_B: torch.Tensor, lengths_B: torch.Tensor, **more: Any
    ) -> T:
        base = base_of(model)
        if not is_shared(model):
            return forward(model, ids_BT, prompts_B, lengths_B, **more)
        is_idle = not len(lengths_B)
        if is_idle:
            ids_BT, prompts_B = ids_BT.new_zeros(1, 2), prompts_B.new_ones(1)
            lengths_B = prompts_B + 1
            more = {k: v.new_zeros(1) if isinstance(v, torch.Tensor) else v for k, v in more.items()}
        kinds: list[Any] = []

        def work() -> dict[str, torch.Tensor]:
            found: Any = forward(model, ids_BT, prompts_B, lengths_B, **more)
            kinds.append(type(found))
            named = {f.name: getattr(found, f.name) for f in fields(found)}
            return {name: value for name, value in named.items() if value is not None}

        named = base.run_whole(work)
        found: T = kinds[0](**{name: value[:0] if is_idle else value for name, value in named.items()})
        return found

    return run


def is_broken(error: BaseException) -> bool:
    """Whether ranks have lost each other: a connection broke, or an answer did not come in time."""
    words = str(error)
    return isinstance(error, dist.DistError) or any(w in words for w in ("gloo", "NCCL", "Connection closed"))


def is_shared(model: Any) -> bool:
    """Whether each rank holds a part of its weights."""
    return hasattr(base_of(model), "run_whole")


@torch.no_grad()
def gather(shared: Any, whole: Any) -> None:
    """Copy the weights that train from a shared model into the same one in one piece; all ranks together."""
    base = base_of(shared)
    if base.is_small:
        base.unshard()
    pairs = zip(shared.named_parameters(), whole.named_parameters(), strict=True)
    for (name, part), (other, target) in pairs:
        assert name == other, f"{name} is not {other}"
        if part.requires_grad:
            target.copy_(part if base.is_small else part.full_tensor())
    if base.is_small:
        base.reshard()
