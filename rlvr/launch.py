"""Starting ranks: torchrun's commands for one machine, several, or Slurm, and running those of this machine.

rlvr train -> run -> torchrun's agent, in a thread -> ranks: rlvr train, with RANK and so on set
               '-> a keeper, that ends the ranks when this process is killed
"""

from __future__ import annotations

import json
import logging
import os
import re
import shlex
import signal
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rlvr.errors import RankError, RecipeError, counted
from rlvr.keeper import Keeper, kill_below
from rlvr.recipe.schema import Recipe

PORT = 29500
GRACE_S = 15.0
"""Once a rank has ended, the others have so long to end as well."""
RANKS_A_CORE = 4
"""Where ranks compute on the CPU; more only wait for each other, and each holds a model of its own."""
MOST = 512
"""Ranks of a run: each is connected with every other, twice, and a process may open 1024 files by default."""
LOOK_S = 0.2
"""Between two looks at them."""
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
STOPS = "stopping: the last finished step is saved first; a second signal ends at once, without saving"
LEFT = "ended at once: what came after the last checkpoint is not saved"
STOPPED = (b"T", b"t")
"""States of a process that a signal or a debugger has stopped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where ranks run."""

    ranks: int
    """On each machine."""
    nodes: int = 1
    """Machines."""
    node: str = "0"
    """Number of this machine among them, or a variable of the shell that holds it."""
    address: str = "127.0.0.1"
    """Of the first machine, as the others reach it, or such a variable."""
    port: int = PORT
    """Free on that machine."""


def joined() -> bool:
    """Whether this process is a rank already."""
    return "RANK" in os.environ


def ranks_of(recipe: Recipe) -> int:
    """How many ranks the recipe wants on this machine: `run.ranks`, or one a GPU that is not a server's."""
    if recipe.run.ranks is not None:
        return recipe.run.ranks
    if recipe.model.device not in ("auto", "cuda"):
        return 1
    import torch

    vllm = recipe.vllm
    serving = recipe.sampling.engine == "vllm_server" and not vllm.servers
    return max(1, torch.cuda.device_count() - (vllm.replicas * vllm.tensor_parallel if serving else 0))


def check_count(recipe: Recipe, ranks: int, *, nodes: int, is_here: bool) -> None:
    """RecipeError where so many ranks on each of so many machines cannot work; `is_here`: this is one."""
    if ranks * nodes > MOST:
        raise RecipeError(
            f"{ranks} ranks on {counted(nodes, 'machine')}: a run has at most {MOST}, since each rank is "
            "connected with every other; give fewer with --ranks-per-node and --nodes (or run.ranks)"
        )
    if not is_here:
        return
    import torch

    gpus = torch.cuda.device_count() if recipe.model.device in ("auto", "cuda") else 0
    cores = os.cpu_count() or 1
    most = gpus or RANKS_A_CORE * cores
    if ranks > most:
        has = (
            f"{counted(gpus, 'GPU')}, one a rank"
            if gpus
            else f"{counted(cores, 'core')}, {RANKS_A_CORE} ranks each"
        )
        cpu = ", or set model.device: cpu" if gpus else ""
        raise RecipeError(
            f"{ranks} ranks on this machine: it has room for {most} ({has}); give fewer with "
            f"--ranks-per-node or run.ranks{cpu}"
        )


def command(place: Place, rest: Sequence[str]) -> list[str]:
    """What starts the ranks of one machine; `rest` follows `rlvr`."""
    if place.nodes == 1:
        where = ["--standalone"]
    else:
        where = [f"--nnodes={place.nodes}", f"--node-rank={place.node}"]
        where += [f"--master-addr={place.address}", f"--master-port={place.port}"]
    return ["torchrun", *where, f"--nproc-per-node={place.ranks}", "-m", "rlvr.cli.app", *rest]


def slurm(place: Place, rest: Sequence[str]) -> str:
    """A script for sbatch."""
    there = replace(place, node="$SLURM_NODEID", address="$first")
    ours = {"--node-rank=$SLURM_NODEID", "--master-addr=$first"}  # the job's own variables
    line = " ".join(part if part in ours else shlex.quote(part) for part in command(there, rest))
    head = [
        "#!/bin/bash",
        f"#SBATCH --nodes={place.nodes}",
        "#SBATCH --ntasks-per-node=1",
        "#SBATCH --exclusive",
        'export first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)',
    ]
    return "\n".join([*head, f"srun --kill-on-bad-exit=1 bash -c {shlex.quote(line)}"])


def run(place: Place, rest: Sequence[str], runs: Path) -> int:
    """Run the ranks of this machine to their end; their exit code.  Raises RankError where none could start.

    The first signal goes to the ranks, which save and end; the second one ends them at once.  None outlives
    this process.  `runs` is where the run's folder lies, or will.
    """
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // place.ranks)))
    ended: list[int | BaseException | None] = []
    stop = _Stop()

    def work() -> None:
        try:
            ended.append(_agent([*command(place, rest)[1:]], f"{stop.folder}/logs", stop))
        except BaseException as error:  # noqa: BLE001 - handed to the main thread
            ended.append(error)

    agent = threading.Thread(target=work, daemon=True)
    with stop.heard_here():
        keeper = Keeper("rlvr-ranks-")
        try:
            stop.folder = keeper.folder
            os.environ["TMPDIR"] = f"{keeper.folder}/tmp"  # the mark by which the keeper knows them
            Path(os.environ["TMPDIR"]).mkdir()
            agent.start()
            seen = _wait(agent, stop)
        finally:
            kill_below(keeper.folder)
            keeper.close()
        is_told = bool(ended) and isinstance(ended[0], int)
        if stop.is_at_once or (stop.heard and not is_told):
            aloud(_left(runs, seen))
    if stop.heard and not is_told:
        return 128 + stop.heard[0]
    (end,) = ended
    if isinstance(end, BaseException):
        raise RankError(f"the ranks could not be started: {type(end).__name__}: {end}") from end
    return RankError.exit_code if end is None else end


def go_on(path: Path, hosts: Sequence[str] = ()) -> str:
    """Words on how to take up the run at `path`, which ran on `hosts`."""
    count = len(set(hosts))
    on_all = f" (on {count} machines: rlvr launch --resume {path}, with the options of before)"
    return f"continue with: rlvr train --resume {path}{on_all if count > 1 else ''}"


def _left(runs: Path, ranks: set[int]) -> str:
    """Words about a run whose ranks were ended before they could save it."""
    for path in runs.glob("*/status.json"):
        with suppress(OSError, ValueError, KeyError):
            said = json.loads(path.read_bytes())
            if said["pid"] in ranks and said["host"] == socket.gethostname():
                how = "ended" if said["state"] == "stopped" else LEFT
                return f"{how}; {go_on(path.parent)}"
    return "ended at once; nothing of the run was saved by this machine"


def _agent(arguments: list[str], logs: str, stop: _Stop) -> int | None:
    """What `torchrun ARGUMENTS` does; the ranks' exit code, which it would not give; None for killed ones."""
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher import api
    from torch.distributed.run import config_from_args, parse_args

    logging.getLogger("torch.distributed").setLevel(logging.CRITICAL)  # the ranks say themselves what was
    given = parse_args(arguments)  # type: ignore[no-untyped-call]  # torch has no types here
    given.log_dir = logs
    if given.standalone:
        given.rdzv_backend, given.rdzv_endpoint, given.rdzv_id = "c10d", "localhost:0", str(os.getpid())
    config, entrypoint, rest = config_from_args(given)
    api.LocalElasticAgent = _patient(stop)  # type: ignore[attr-defined]  # the one place where its kind is chosen
    try:
        api.elastic_launch(config=config, entrypoint=entrypoint)(*rest)
    except ChildFailedError as error:
        codes = [failure.exitcode for failure in error.failures.values()]
        return max((code for code in codes if code > 0), default=None)
    return 0


def _patient(stop: _Stop) -> Any:
    """Torch's agent ends the other ranks as soon as one has ended; they must say first which one was lost."""
    from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent

    class PatientAgent(LocalElasticAgent):
        def _start_workers(self, worker_group: Any) -> dict[int, Any]:
            if stop.heard:
                raise RankError("stopped before the ranks were started")
            found: dict[int, Any] = super()._start_workers(worker_group)
            return found

        def _monitor_workers(self, worker_group: Any) -> Any:
            _end_together({worker.id for worker in worker_group.workers})
            return super()._monitor_workers(worker_group)

    return PatientAgent


def _end_together(ranks: set[int]) -> None:
    """Where one of these processes has ended, wait for the others, and kill those that do not end."""
    until = time.monotonic() + GRACE_S
    while 0 < len(left := [(pid, state) for pid, state in _ranks() if pid in ranks]) < len(ranks):
        # A signal that asks it to end waits in a process that is stopped.
        if time.monotonic() > until or all(state in STOPPED for _, state in left):
            for pid, _ in left:
                _send(pid, signal.SIGKILL)
        time.sleep(LOOK_S)


def _wait(agent: threading.Thread, stop: _Stop) -> set[int]:
    """Until the agent has ended, or must not be waited for; the process ids of its ranks."""
    seen: set[int] = set()
    while agent.is_alive() and not stop.is_at_once:
        agent.join(LOOK_S)
        seen.update(pid for pid, _ in _ranks())
        if stop.heard and not seen:
            break  # it may wait for other machines for long
        stop.pass_on()
    agent.join(5 * LOOK_S)
    return seen


class _Stop:
    """What signals to this process ask of its ranks."""

    def __init__(self) -> None:
        self.heard: list[int] = []
        """Their numbers, in order."""
        self.folder = ""
        """What marks the ranks; empty before there are some."""
        self._told: set[int] = set()

    @property
    def is_at_once(self) -> bool:
        """Whether the ranks were to end without saving."""
        return len(self.heard) > 1

    def pass_on(self) -> None:
        """Give the signal to ranks that have not had it: some may have started after it."""
        for pid, _ in _ranks() if self.heard else ():
            if pid not in self._told:
                self._told.add(pid)
                _send(pid, self.heard[0])

    def _hear(self, number: int, _: object) -> None:
        self.heard.append(number)
        if not self.is_at_once:
            aloud(STOPS)
            self.pass_on()
        elif self.folder:
            kill_below(self.folder)

    @contextmanager
    def heard_here(self) -> Iterator[None]:
        """Hear signals within the block."""
        before = {number: signal.signal(number, self._hear) for number in STOPPING}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def aloud(words: str) -> None:
    """Write a line to standard error from where a signal may have interrupted another who writes."""
    os.write(2, f"{words}\n".encode())


def _send(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def _ranks() -> Iterator[tuple[int, bytes]]:
    """Processes that the agent in this one has started and that have not ended, each with its state."""
    own = str(os.getpid()).encode()
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            state, parent = (entry / "stat").read_bytes().rpartition(b")")[2].split()[:2]
            if parent == own and state != b"Z" and b"\0RANK=" in (entry / "environ").read_bytes():
                yield int(entry.name), state


def address_of(host: str) -> tuple[str, int]:
    """`ADDRESS:PORT` in parts; RecipeError where it is no such thing."""
    found = re.fullmatch(r"(?:\[([0-9a-fA-F:.]+)\]|([\w.-]+))(?::(\d+))?", host, re.ASCII)
    port = int(found[3] or PORT) if found else 0
    if found is None or not 0 < port < 2**16:
        raise RecipeError(f"--host {host}: give ADDRESS:PORT of the first machine, such as 10.0.0.1:{PORT}")
    return found[1] or found[2], port
