"""Every command in the README runs: in order, in one copy of the checkout, as a reader would type them.

In ```bash and ```console blocks each line is a command: of rlvr, pytest or scripts/, or one of SETUP.
Comments right before a block say how its lines are tested:

    <!-- test: --set run.steps=2 -->              adds this to the block's `rlvr train` lines
    <!-- test: eval --limit 4 -->                 adds this to its `rlvr eval` lines (or name another command)
    <!-- test: skip, needs the hub -->            only checks the syntax of the block's lines
    <!-- test: skip rlvr eval Qwen, the hub -->   the same for its lines that begin so

A line that trains recipes/quickstart.yaml is shortened by SHORT without being asked.  The syntax of every
line is checked against the command line itself; recipes that it names are read with the line's --set.
"""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest
import typer

from rlvr.cli.app import app
from rlvr.recipe.load import find, load
from tests.checkout import ROOT, copy_to

README = (ROOT / "README.md").read_text(encoding="utf-8")
SHORT = shlex.split(
    "--set run.steps=2 --set warm_start.steps=20 --set optim.problems_per_step=4 --set eval.limit=8"
)
TRAIN_SHORT = ["rlvr", "train", "recipes/quickstart.yaml", *SHORT]
# Both are run whole elsewhere (tests/test_scripts.py, .ci/run); here quickstart's training stands for it.
STAND_INS = {"scripts/quickstart": TRAIN_SHORT, "scripts/test": []}
# Done already where a test runs.
SETUP = ("git clone ", "cd ", "source .venv/bin/activate", ". .venv/bin/activate")
PROGRAMS = {
    "rlvr": [sys.executable, "-m", "rlvr.cli.app"],
    "pytest": [sys.executable, "-m", "pytest"],
}
NOTE = r"<!-- test: (.*?) -->"
BLOCK = re.compile(rf"(?P<notes>(?:{NOTE}\s*)*)^```(?P<kind>\w*)\n(?P<body>.*?)^```", re.M | re.S)


@dataclass(frozen=True)
class Command:
    """One command of the README."""

    words: list[str]
    """Program and arguments."""
    environment: dict[str, str]
    """The `NAME=value` before them."""
    notes: tuple[str, ...]
    """The test comments before its block."""
    place: str
    """README.md:LINE."""

    @property
    def is_skipped(self) -> bool:
        begins = [
            note.removeprefix("skip").split(",")[0].strip() for note in self.notes if note.startswith("skip")
        ]
        return any(shlex.join(self.words).startswith(begin) for begin in begins)

    @property
    def to_run(self) -> list[str]:
        """The words, with what shortens them in a test; empty for what is run elsewhere."""
        if self.words[0] in STAND_INS:
            return STAND_INS[self.words[0]]
        additions = SHORT if self.words[:3] == TRAIN_SHORT[:3] else []
        for note in self.notes:
            name, _, rest = ("train", "", note) if note.startswith("-") else note.partition(" ")
            if self.words[:2] == ["rlvr", name]:
                additions = [*additions, *shlex.split(rest)]
        return [*self.words, *additions]


def commands(text: str) -> list[Command]:
    """The commands of a text, in order."""
    found = []
    for block in BLOCK.finditer(text):
        notes = tuple(re.findall(NOTE, block["notes"]))
        for number, line in lines(block["body"], block["kind"], text.count("\n", 0, block.start("body")) + 1):
            words, environment = shlex.split(line, comments=True), {}
            while words and re.match(r"\w+=", words[0]):
                name, _, value = words.pop(0).partition("=")
                environment[name] = value
            if words and not line.startswith(SETUP):
                found.append(Command(words, environment, notes, f"README.md:{number}"))
    return found


def lines(body: str, kind: str, first: int) -> Iterator[tuple[int, str]]:
    """The command lines of a block with their numbers; in a console block the others are output."""
    if kind not in ("bash", "sh", "console"):
        return
    start, text = first, ""
    for number, row in enumerate(body.splitlines(), first):
        start, text = (start, text + row) if text else (number, row)
        if text.endswith("\\"):
            text = text[:-1]
            continue
        if kind != "console":
            yield start, text
        elif text.startswith("$ "):
            yield start, text[2:]
        text = ""


COMMANDS = commands(README)


def test_the_reader_of_commands_reads() -> None:
    text = (
        "<!-- test: skip rlvr eval, the hub -->\n<!-- test: --set run.steps=2 -->\n"
        "```bash\nrlvr train \\\n  x.yaml   # about\nrlvr eval A\n# no command\ncd x\n```\n"
        "```\nno commands\n```\n```console\n$ A=b rlvr runs list\noutput\n```\n"
    )
    train, evaluate, listing = commands(text)
    assert (train.to_run, train.is_skipped) == (["rlvr", "train", "x.yaml", "--set", "run.steps=2"], False)
    assert (evaluate.words, evaluate.is_skipped) == (["rlvr", "eval", "A"], True)
    assert (listing.words, listing.environment, listing.place) == (
        ["rlvr", "runs", "list"],
        {"A": "b"},
        "README.md:14",
    )


def test_the_readme_has_its_commands_and_every_test_comment_stands_before_a_block() -> None:
    first = [" ".join(command.words) for command in COMMANDS]
    assert {"scripts/quickstart", "scripts/test", "rlvr train recipes/quickstart.yaml"} <= set(first)
    assert len(re.findall(NOTE, README)) == sum(
        len(re.findall(NOTE, b["notes"])) for b in BLOCK.finditer(README)
    )


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.place)
def test_a_command_is_one_that_the_product_knows(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    program, *rest = command.words
    assert not {"|", "||", "&&", ";", ">", "<"} & set(rest), "one command a line: no test can run this"
    if program.startswith("scripts/"):
        assert os.access(ROOT / program, os.X_OK)
        return
    assert program in PROGRAMS, f"{command.place}: no test knows how to run `{program}`"
    if program == "rlvr":
        parse(rest)
        settings = [value for flag, value in pairwise(rest) if flag == "--set"]
        for word in rest:
            if word.endswith(".yaml"):
                load(find(word), settings)


def parse(words: list[str]) -> None:
    """Read a command line without running it; raises a usage error where rlvr would say one."""
    command, name = typer.main.get_command(app), "rlvr"
    while hasattr(command, "commands"):
        name, *words = words
        assert name in command.commands, f"no command `{name}`"
        command = command.commands[name]
    command.make_context(name, words)


@pytest.mark.parametrize("path", re.findall(r"\]\((?!https?:)([^)#]+)", README))
def test_what_the_readme_links_to_is_there(path: str) -> None:
    assert (ROOT / path).exists()


@pytest.mark.parametrize("block", [b["body"] for b in BLOCK.finditer(README) if b["kind"] == "python"])
def test_its_python_runs(block: str, tmp_path: Path) -> None:
    (tmp_path / "block.py").write_text(block)
    done = subprocess.run(
        [sys.executable, "block.py"], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_every_command_runs(tmp_path: Path) -> None:
    copy_to(tmp_path)
    paths = os.pathsep.join([str(tmp_path), str(tmp_path / "verifiers")])
    environment = {**os.environ, "PYTHONPATH": paths, "HF_HUB_OFFLINE": "1"}
    faults = []
    for command in COMMANDS:
        if command.is_skipped or not command.to_run:
            continue
        program, *rest = command.to_run
        done = subprocess.run(
            [*PROGRAMS.get(program, [tmp_path / program]), *rest],
            cwd=tmp_path,
            env=environment | command.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=600,
        )
        if done.returncode:
            faults.append(f"{command.place}: {shlex.join(command.to_run)}\n{done.stderr or done.stdout}")
    assert not faults, "\n".join(faults)
    assert len(list((tmp_path / "runs").glob("*/manifest.json"))) >= 2
