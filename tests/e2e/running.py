"""Runs of the real command line: in a process that can be killed, or in this one where that is enough."""

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from contextlib import contextmanager, suppress
from pathlib import Path

from rlvr.cli.app import answer, app
from rlvr.runs.reader import read_metrics

REPO = Path(__file__).parents[2]
QUICKSTART = REPO / "recipes" / "quickstart.yaml"
PLUGINS = REPO / "tests" / "plugins.py"
WAIT_S = 120.0
MARK = "RLVR_TEST_RUN"

SMALL = {
    "verifier": f"{PLUGINS}:coin",
    "warm_start.steps": 20,
    "warm_start.batch_size": 8,
    "warm_start.save_every": 6,
    "sampling.group_size": 4,
    "sampling.max_tokens": 32,
    "optim.problems_per_step": 8,
    "optim.minibatches": 2,
    "eval.every": 2,
    "eval.limit": 16,
    "eval.samples": 2,
    "run.steps": 6,
    "run.save_every": 2,
    "run.keep": 10,
    "run.threads": 1,
    "run.verify_workers": 1,
}
"""The quickstart in seconds.  A random model earns mixed rewards from `coin`, so every step does learn."""


def settings(**changes):
    """`--set` arguments; `a__b` is the key a.b."""
    named = {key.replace("__", "."): value for key, value in changes.items()}
    return [part for key, value in named.items() for part in ("--set", f"{key}={value}")]


def small(folder, **changes):
    """Arguments that train the small quickstart as `folder/run`."""
    keys = {key.replace(".", "__"): value for key, value in SMALL.items()} | {"run__name": "run"}
    return ["train", str(QUICKSTART), *settings(**keys | {"run__dir": folder} | changes)]


def here(*arguments):
    """The exit code of a command line that runs in this process."""
    return answer(app, [str(argument) for argument in arguments])


class Process:
    """One `rlvr` as a process, with a mark that all its descendants inherit and its own scratch folder."""

    def __init__(self, folder, *arguments, wrapper=(), **variables):
        """`wrapper`: what it is started through; `variables`: more of its environment."""
        self.mark = uuid.uuid4().hex
        self.scratch = Path(folder) / f"scratch-{self.mark[:6]}"
        self.scratch.mkdir(parents=True)
        path = os.pathsep.join([str(REPO), str(REPO / "verifiers")])
        environment = {k: v for k, v in os.environ.items() if not k.startswith("RLVR_")}
        environment |= {MARK: self.mark, "TMPDIR": str(self.scratch), "PYTHONPATH": path, "COLUMNS": "200"}
        environment |= variables
        with (self.scratch.parent / f"{self.mark}.out").open("wb") as out:
            self.popen = subprocess.Popen(
                [*wrapper, sys.executable, "-m", "rlvr.cli.app", *map(str, arguments)],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                cwd=folder,
                env=environment,
                start_new_session=True,
            )
            self.out = Path(out.name)

    def said(self):
        """Everything printed so far."""
        return self.out.read_text(errors="replace")

    def until(self, condition):
        """Wait for the condition to hold while the process lives."""
        deadline = time.monotonic() + WAIT_S
        while not condition():
            assert self.popen.poll() is None, f"ended before the moment came:\n{self.said()}"
            assert time.monotonic() < deadline, f"the moment never came:\n{self.said()}"
            time.sleep(0.002)

    def ends(self, number=None):
        """Send a signal if there is one, wait for the end, and return the exit code."""
        if number is not None:
            self.popen.send_signal(number)
        return self.popen.wait(WAIT_S)

    def descendants(self):
        """Process ids with the mark, children of children included."""
        found = []
        for entry in Path("/proc").iterdir():
            with suppress(OSError):
                if (
                    entry.name.isdigit()
                    and f"{MARK}={self.mark}".encode() in (entry / "environ").read_bytes()
                ):
                    found.append(int(entry.name))
        return found

    def check_nothing_runs(self):
        """All descendants must be gone within two seconds."""
        deadline = time.monotonic() + 2.0
        while left := self.descendants():
            lines = [
                Path(f"/proc/{pid}/cmdline").read_bytes() for pid in left if Path(f"/proc/{pid}").exists()
            ]
            assert time.monotonic() < deadline, f"still running: {lines}"
            time.sleep(0.02)

    def scratch_files(self):
        """What lies in its folder for temporary files."""
        return sorted(p.name for p in self.scratch.iterdir())


@contextmanager
def running(folder, *arguments, **started):
    """A process that is over when the block is over, whatever happened in it."""
    process = Process(folder, *arguments, **started)
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.popen.pid, signal.SIGKILL)
        process.popen.wait()
        for pid in process.descendants():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def status(run):
    """status.json, empty while there is none."""
    try:
        return json.loads((run / "status.json").read_bytes())
    except (OSError, ValueError):
        return {}


def in_phase(run, phase, step=0):
    """A condition: the run is in a phase whose name begins so, with at least `step` steps done."""

    def holds():
        said = status(run)
        return str(said.get("phase", "")).startswith(phase) and said["step"] >= step

    return holds


def replicas(process):
    """Process ids of the API servers below a run."""
    found = []
    for pid in process.descendants():
        try:
            if b"vllm.entrypoints" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(pid)
        except OSError:
            continue
    return found


def has_done(run, step):
    """A condition: so many steps are done."""
    return lambda: status(run).get("step", -1) >= step


def checkpoints(run):
    """Names of the visible checkpoints, those of the warm start first, in order of age."""
    names = (p.name for p in (run / "checkpoints").glob("[!.]*"))
    return sorted(names, key=lambda name: (name.startswith("step-"), name))


def leftovers(run):
    """Temporary files and folders anywhere in the run."""
    found = (p for p in run.rglob("*") if p.parts[-2:] != ("shards", ".metadata"))
    return [str(p) for p in found if p.name.startswith(".") or p.name.endswith((".tmp", ".part"))]


def train_rows(run):
    """The metrics of each step; `issued` must close with what became of it."""
    rows = [row for row in read_metrics(run) if row.kind == "train"]
    for row in rows:
        kinds = ("scored", "no_answer", "timeout", "error")
        assert row.metrics["verify/issued"] == sum(row.metrics[f"verify/{kind}"] for kind in kinds)
    return {row.step: row.metrics for row in rows}
