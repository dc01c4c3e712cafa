"""The `vllm_server` engine: `vllm serve` replicas, started here or running already, spoken to over HTTP.

    load_weights: a file in shared memory -> each replica: pause, start, update, finish, resume
    generate:     groups -> the replica with most room -> group by group; a lost one is asked for again

Weights change in flight: a group being sampled goes on with the new ones, and its completions say from which
version to which.  Only one thread may sample at a time, while another may load weights.
"""

from __future__ import annotations

import os
import queue
import secrets
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count
from time import monotonic
from typing import Any
from uuid import uuid4

from rlvr.errors import EngineError
from rlvr.keeper import Keeper
from rlvr.rollout import drawn
from rlvr.rollout.contact import contact, wait
from rlvr.rollout.engine import Decode, Inbox, Tell, log
from rlvr.rollout.member import Member
from rlvr.rollout.parcel import Parcel, discard, pack, roomy
from rlvr.rollout.patience import FIRST_WORD_S
from rlvr.rollout.replica import RefusedError, Replica, ReplicaError
from rlvr.rollout.vllm_settings import ADAPTER, VllmSettings, engine_arguments, write_config
from rlvr.types import Group, Request, Sampling

GLANCE_S = 0.2
"""So long a flow waits for an answer before it lets its caller look around."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """Which servers there are."""

    replicas: int = 1
    """Servers to start on this machine, where `urls` is empty."""
    urls: Sequence[str] = ()
    """Servers that run already, under `rlvr serve`."""
    key: str = ""
    """What they ask for."""
    patience_s: float | None = None
    """How long to wait for `urls` to answer at first; by default the lesser of the two deadlines."""
    threads: int | None = None
    """CPU threads of each."""
    first_gpu: int = 0
    """Servers started here take the GPUs from this one on."""
    backend: str | None = None
    """`nccl` or `gloo`: weights go through a process group; None: through files."""


class VllmServer:
    """Samples with a fleet of servers; keeps them alive."""

    name = "vllm_server"

    def __init__(
        self,
        model: Any,
        decode: Decode,
        settings: VllmSettings,
        fleet: Fleet,
        *,
        version: int = 0,
        tell: Tell = log,
    ) -> None:
        """Start or find the servers and give them `model`'s weights; EngineError says what hinders."""
        self._decode, self._settings, self._fleet, self._tell = decode, settings, fleet, tell
        self._run = uuid4().hex[:8]
        self._key = fleet.key or secrets.token_hex(16)
        self._vocabulary = int(model.config.get_text_config().vocab_size)
        self._members: list[Member] = []
        self._tickets = count()
        self._parcel: Parcel | None = None
        self._is_closed = False
        self._keeper = Keeper("rlvr-vllm-", roomy(model, tell))
        try:
            self._arguments = self._model_arguments(model)
            self._members = self._connected(model) if fleet.urls else self._started()
            self.load_weights(model, version)
        except BaseException:
            self.close()
            raise

    def load_weights(self, model: Any, version: int) -> None:
        """Replace the weights of every server, in flight; see `rollout/engine.py`."""
        old, self._parcel = (
            self._parcel,
            pack(model, version, self._keeper.folder, self._parcel, write=self._fleet.backend is None),
        )
        # NCCL wants its groups used one after the other.
        with ThreadPoolExecutor(1 if self._fleet.backend == "nccl" else len(self._members)) as pool:
            list(pool.map(self._updated, self._members))
        if old is not None:
            discard(old, self._parcel)

    def rest(self) -> None:
        """The servers have devices, or a share of one, of their own."""

    def close(self) -> None:
        """End the servers that were started here, and remove all files; safe to call twice."""
        self._is_closed = True
        for member in self._members:
            if member.replica is not None:
                member.replica.close(patience_s=0.0)
            member.client.close()
        self._keeper.close()

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[tuple[int, Group]]:
        """Yield (index, group) as groups finish; each once, whatever happens to the servers."""
        for found in self.flow(deque(enumerate(requests)), sampling):
            if found is not None:
                yield found

    def flow(self, inbox: Inbox, sampling: Sampling) -> Iterator[tuple[int, Group] | None]:
        """See `rlvr/rollout/engine.py`; the servers decode on while nobody reads."""
        left: dict[int, Request] = {}
        names: dict[int, int] = {}
        waiting: deque[int] = deque()
        answers: queue.SimpleQueue[tuple[int | None, Group | Exception | None]] = queue.SimpleQueue()
        heard = monotonic()
        try:
            while left or inbox:
                while inbox:  # a number of our own: others may be asking beside
                    ticket = next(self._tickets)
                    names[ticket], left[ticket] = inbox.popleft()
                    waiting.append(ticket)
                self._send(waiting, left, sampling, answers)
                try:
                    index, answer = answers.get(timeout=GLANCE_S)
                except queue.Empty:
                    self._tell_the_wait(heard)
                    away = monotonic()
                    yield None
                    heard += monotonic() - away
                    continue
                heard = monotonic()
                if index is None:
                    if isinstance(answer, Exception):
                        raise answer
                    continue
                if isinstance(answer, Group):
                    del left[index]
                    yield names.pop(index), answer
                    heard = monotonic()
                elif isinstance(answer, ReplicaError | drawn.GarbageError):
                    waiting.appendleft(index)
                elif isinstance(answer, EngineError):
                    raise answer
                elif answer is not None:
                    raise EngineError(f"vllm_server: problem {left[index].problem.id}: {answer}") from answer
        finally:
            if left:
                self._abort()

    def _send(self, waiting: deque[int], left: dict[int, Request], sampling: Sampling, answers: Any) -> None:
        """Ask as much as the servers have room for; have those in trouble mended."""
        for member in self._members:
            if member.trouble and not member.is_mending and not member.asked:
                member.is_mending = True
                _in_background(self._mend, member, answers)
        while waiting:
            request = left[waiting[0]]
            well = [m for m in self._members if not m.trouble]
            chosen = min(well, key=lambda m: len(m.asked), default=None)
            if chosen is None or len(chosen.asked) >= max(1, self._settings.sequences // len(request.seeds)):
                return
            index = waiting.popleft()
            chosen.asked[index] = monotonic()
            _in_background(self._ask, chosen, index, request, sampling, answers)

    def _ask(self, member: Member, index: int, request: Request, sampling: Sampling, answers: Any) -> None:
        answer: Group | Exception
        client, incarnation = member.client, member.incarnation
        try:
            body = {
                "token_ids": list(request.prompt_ids),
                "sampling_params": drawn.parameters(request, sampling, self._settings.context),
                "model": ADAPTER if self._settings.lora_rank is not None else None,
            }
            found = client.post("/inference/v1/generate", body, timeout_s=self._settings.deadline_s)
            answer = self._group(request, sampling, found)
        except Exception as error:  # noqa: BLE001 - handed to the thread that waits
            answer = error
            if isinstance(error, ReplicaError | drawn.GarbageError) and incarnation == member.incarnation:
                member.trouble = member.trouble or str(error)  # not of one that was started anew meanwhile
        member.asked.pop(index, None)  # here, since a flow may be left unread for a while
        answers.put((index, answer))

    def _group(self, request: Request, sampling: Sampling, answer: Any) -> Group:
        try:
            rows = [
                drawn.Row(
                    token_ids=choice["token_ids"],
                    logprobs=[place["logprob"] for place in choice["logprobs"]["content"]],
                    finish=choice["finish_reason"],
                    labels=[span["version"] for span in choice["weight_versions"] or ()],
                )
                for choice in sorted(answer["choices"], key=lambda choice: int(choice["index"]))
            ]
        except (KeyError, TypeError, ValueError) as error:
            raise drawn.GarbageError(f"an answer without {error}") from None
        return drawn.group(request, sampling, rows, self._decode, run=self._run, vocabulary=self._vocabulary)

    def _tell_the_wait(self, heard: float) -> None:
        if monotonic() - heard < FIRST_WORD_S:
            return
        for member in self._members:
            if member.trouble:
                self._tell(f"waiting for {member.client.url} to be mended: {member.trouble}")
            elif member.asked:
                self._tell(
                    f"waiting for {member.client.url}: {len(member.asked)} groups asked, no answer "
                    f"(deadline {self._settings.deadline_s:g} s)"
                )

    def _abort(self) -> None:
        """Nobody waits for what is being sampled any more."""
        for member in self._members:
            member.asked.clear()
            try:
                member.client.post("/abort_requests", {}, timeout_s=2.0)
            except (ReplicaError, RefusedError):
                continue  # who asks it next will find out

    def _updated(self, member: Member) -> None:
        """Bring a server to the newest weights, mending it as often as is allowed."""
        with member.lock:
            try:
                if not member.trouble:
                    self._sync(member, is_live=True)
                    return
            except RefusedError as error:
                raise EngineError(f"{member.client.url} refuses the weights: {error}") from error
            except ReplicaError as error:
                member.trouble = str(error)
            self._mend(member, None)

    def _mend(self, member: Member, answers: Any) -> None:
        """Start a server anew, or wait until its keeper has, and give it the newest weights."""
        failed: Exception | None = None
        with member.lock:
            try:
                while member.trouble:
                    self._mend_once(member)
            except (EngineError, RefusedError, OSError) as error:
                failed = EngineError(str(error))
            finally:
                member.is_mending = False
        if answers is not None:
            answers.put((None, failed))
        elif failed is not None:
            raise failed

    def _mend_once(self, member: Member) -> None:
        if self._is_closed:
            raise EngineError("vllm_server is closed")
        where, most = member.client.url, self._settings.failures
        if member.failures == most:
            raise EngineError(
                f"vllm server {where} failed {most + 1} times, vllm.failures = {most}, at last: "
                f"{member.trouble}"
            )
        member.failures += 1
        member.incarnation += 1
        what = "started anew" if member.replica is not None else "waited for"
        self._tell(
            f"vllm server {where} failed ({member.trouble}); {what} ({member.failures} of {most}) "
            "and asked again what it was asked",
            lasting=True,
        )
        try:
            if member.replica is not None:
                member.replica.close(patience_s=0.0)
                member.replica = self._replica(member.gpus)
                member.client = member.replica.client
                member.replica.wait(self._settings.start_s)
            else:
                wait(member.client, self._settings.start_s)
            member.has_base, member.group = False, None
            self._sync(member, is_live=False)
            member.trouble = ""
        except ReplicaError as error:
            member.trouble = str(error)

    def _sync(self, member: Member, *, is_live: bool) -> None:
        assert self._parcel is not None
        name = drawn.label(self._run, self._parcel.version)
        member.backend, member.workers = self._fleet.backend, self._settings.tensor_parallel
        member.sync(self._parcel, name, self._settings.deadline_s, is_live=is_live)

    def _model_arguments(self, model: Any) -> dict[str, Any]:
        folder = os.path.join(self._keeper.folder, "model")
        write_config(model, folder)
        return engine_arguments(self._settings, folder, model.config)

    def _replica(self, gpus: Sequence[int]) -> Replica:
        return Replica(
            self._arguments,
            key=self._key,
            scratch=self._keeper.folder,
            threads=self._fleet.threads,
            gpus=gpus,
        )

    def _started(self) -> list[Member]:
        """Servers of our own, all starting at once."""
        each = self._settings.tensor_parallel
        members = []
        for number in range(self._fleet.replicas):
            first = self._fleet.first_gpu + number * each
            gpus = range(first, first + each) if self._settings.on_gpu else ()
            replica = self._replica(gpus)
            members.append(Member(client=replica.client, replica=replica, gpus=gpus))
        self._members = members
        self._tell(f"waiting for {len(members)} vllm server(s) to start")
        for member in members:
            assert member.replica is not None
            try:
                member.replica.wait(self._settings.start_s)
            except ReplicaError as error:
                raise EngineError(f"a vllm server {error}; `rlvr doctor` checks the installation") from error
        return members

    def _connected(self, model: Any) -> list[Member]:
        """Servers that run already, checked to be of use."""
        usual = min(self._settings.start_s, self._settings.deadline_s)
        patience_s = usual if self._fleet.patience_s is None else self._fleet.patience_s
        for url in self._fleet.urls:
            client = contact(url, self._key, model, self._settings, patience_s=patience_s, tell=self._tell)
            self._members.append(Member(client=client, replica=None))
        return self._members


def _in_background(function: Any, *arguments: Any) -> None:
    """A thread that does not hold up the end of the process."""
    threading.Thread(target=function, args=arguments, daemon=True).start()
