"""Starting ranks: torchrun's commands for one machine, several, or Slurm, and running those of this machine.

rlvr train -> run -> torchrun's agent, in a thread -> ranks: rlvr train, with RANK and so on set
               '-> a keeper, that ends the ranks when this process is killed
"""

from __future__ import annotations

import logging
import os
import re
import shlex
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rlvr.errors import RankError, RecipeError
from rlvr.keeper import Keeper, kill_below
from rlvr.recipe.schema import Recipe

PORT = 29500
GRACE_S = 15.0
"""Once a rank has ended, the others have so long to end as well."""
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


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


def run(place: Place, rest: Sequence[str]) -> int:
    """Run the ranks of this machine to their end; their exit code.  Raises RankError where none could start.

    Signals go to the ranks, which save and end; a second one ends them at once.  None outlives this process.
    """
    keeper = Keeper("rlvr-ranks-")
    os.environ["TMPDIR"] = f"{keeper.folder}/tmp"  # the mark by which the keeper knows them
    Path(os.environ["TMPDIR"]).mkdir()
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // place.ranks)))
    ended: list[int | BaseException] = []

    def work() -> None:
        try:
            ended.append(_agent([*command(place, rest)[1:]], f"{keeper.folder}/logs"))
        except BaseException as error:  # noqa: BLE001 - handed to the main thread
            ended.append(error)

    agent = threading.Thread(target=work, daemon=True)
    try:
        with _forwarding(keeper.folder):
            agent.start()
            _wait(agent, place.ranks)
    finally:
        kill_below(keeper.folder)
        keeper.close()
    (end,) = ended
    if isinstance(end, BaseException):
        raise RankError(f"the ranks could not be started: {type(end).__name__}: {end}") from end
    return end


def _agent(arguments: list[str], logs: str) -> int:
    """What `torchrun ARGUMENTS` does; the ranks' exit code, which it would not give."""
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher import api
    from torch.distributed.run import config_from_args, parse_args

    logging.getLogger("torch.distributed").setLevel(logging.CRITICAL)  # the ranks say themselves what was
    given = parse_args(arguments)  # type: ignore[no-untyped-call]  # torch has no types here
    given.log_dir = logs
    if given.standalone:
        given.rdzv_backend, given.rdzv_endpoint, given.rdzv_id = "c10d", "localhost:0", str(os.getpid())
    config, entrypoint, rest = config_from_args(given)
    api.LocalElasticAgent = _patient()  # type: ignore[attr-defined]  # the one place where its kind is chosen
    try:
        api.elastic_launch(config=config, entrypoint=entrypoint)(*rest)
    except ChildFailedError as error:
        codes = [failure.exitcode for failure in error.failures.values()]
        return max((code for code in codes if code > 0), default=RankError.exit_code)
    return 0


def _patient() -> Any:
    """Torch's agent ends the other ranks as soon as one has ended; they must say first which one was lost."""
    from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent

    class PatientAgent(LocalElasticAgent):
        def _stop_workers(self, worker_group: Any) -> None:
            until = time.monotonic() + GRACE_S
            while time.monotonic() < until and any(_ranks()):
                time.sleep(0.1)
            super()._stop_workers(worker_group)

    return PatientAgent


def _wait(agent: threading.Thread, count: int) -> None:
    """Until the agent has ended; where one rank has, the others do not keep it for ever."""
    seen, since = 0, None
    while agent.is_alive():
        agent.join(0.2)
        ranks = list(_ranks())
        seen = max(seen, len(ranks))
        since = (since or time.monotonic()) if seen == count > len(ranks) else None
        if since is not None and time.monotonic() - since > GRACE_S:
            _send(signal.SIGKILL)


@contextmanager
def _forwarding(folder: str) -> Iterator[None]:
    """The first signal goes to every rank, the second one ends them."""
    heard: list[int] = []

    def forward(number: int, _: object) -> None:
        if heard:
            kill_below(folder)
        heard.append(number)
        _send(number)

    before = {number: signal.signal(number, forward) for number in STOPPING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _send(number: int) -> None:
    for pid in _ranks():
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def _ranks() -> Iterator[int]:
    """Processes that the agent in this one has started and that still run."""
    own = str(os.getpid()).encode()
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            state, parent = (entry / "stat").read_bytes().rpartition(b")")[2].split()[:2]
            if parent == own and state != b"Z" and b"\0RANK=" in (entry / "environ").read_bytes():
                yield int(entry.name)


def address_of(host: str) -> tuple[str, int]:
    """`ADDRESS:PORT` in parts; RecipeError where it is no such thing."""
    found = re.fullmatch(r"(?:\[([0-9a-fA-F:.]+)\]|([\w.-]+))(?::(\d+))?", host, re.ASCII)
    port = int(found[3] or PORT) if found else 0
    if found is None or not 0 < port < 2**16:
        raise RecipeError(f"--host {host}: give ADDRESS:PORT of the first machine, such as 10.0.0.1:{PORT}")
    return found[1] or found[2], port
