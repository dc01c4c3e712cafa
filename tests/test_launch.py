"""`rlvr launch` says what torchrun is asked, on each machine."""

import os
import shlex
import subprocess

import pytest
from torch.distributed.run import config_from_args, parse_args

from rlvr.launch import MOST, PORT, RANKS_A_CORE, Place, address_of, command, go_on, slurm
from tests.e2e.running import QUICKSTART, here, small


def printed(capsys, *arguments):
    """The lines of a dry run, as words."""
    assert here("launch", QUICKSTART, "--dry-run", *arguments) == 0
    return [shlex.split(line) for line in capsys.readouterr().out.splitlines()]


def test_one_machine(capsys):
    (words,) = printed(capsys, "--ranks-per-node", 3, "--set", "run.name=a b")
    assert words[:3] == ["torchrun", "--standalone", "--nproc-per-node=3"]
    assert words[3:] == ["-m", "rlvr.cli.app", "train", str(QUICKSTART), "--set", "run.name=a b"]


def test_each_of_several_machines(capsys):
    lines = printed(capsys, "--nodes", 2, "--ranks-per-node", 4, "--host", "10.0.0.1:1234")
    for number, words in enumerate(lines):
        config, entrypoint, rest = config_from_args(parse_args(words[1:]))
        assert (config.min_nodes, config.max_nodes, config.nproc_per_node) == (2, 2, 4)
        assert (config.rdzv_backend, config.rdzv_endpoint) == ("static", "10.0.0.1:1234")
        assert config.rdzv_configs["rank"] == number
        assert config.max_restarts == 0, "a rank that comes back has lost its run"
        assert rest[-2:] == ["train", str(QUICKSTART)]
        assert entrypoint.endswith("python") or "python" in entrypoint
    assert len(lines) == 2


def test_the_number_of_ranks_is_the_recipes(capsys):
    (words,) = printed(capsys, "--set", "run.ranks=5")
    assert "--nproc-per-node=5" in words
    (words,) = printed(capsys, "--set", "model.device=cpu")
    assert "--nproc-per-node=1" in words


def test_a_script_for_slurm_finds_the_first_machine(capsys):
    place = Place(ranks=8, nodes=4)
    script = slurm(place, ["train", "it's mine.yaml"])
    assert "#SBATCH --nodes=4" in script
    inner = shlex.split(script.splitlines()[-1])[-1]
    assert "--node-rank=$SLURM_NODEID" in inner
    assert "--master-addr=$first" in inner
    assert shlex.split(inner)[-2:] == ["train", "it's mine.yaml"]
    assert here("launch", QUICKSTART, "--slurm", "--nodes", 4, "--ranks-per-node", 8) == 0
    assert capsys.readouterr().out.startswith("#!/bin/bash\n")


def test_a_script_for_slurm_hands_on_every_word_as_it_stands(tmp_path):
    """Run by bash, with programs of Slurm and torchrun that only say what they were given."""
    words = ["train", "it's mine.yaml", "--set", 'run.name=$HOME $(touch gone) `x`; a\'b "c"']
    for name, does in (
        ("srun", 'shift; SLURM_NODEID=3 exec "$@"'),
        ("scontrol", "echo first-host"),
        ("torchrun", "printf '%s\\n' \"$@\""),
    ):
        (tmp_path / name).write_text(f"#!/bin/bash\n{does}\n")
        (tmp_path / name).chmod(0o755)
    done = subprocess.run(
        ["bash", "-c", slurm(Place(ranks=8, nodes=4), words)],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin", "HOME": "/elsewhere"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    heard = done.stdout.splitlines()
    assert heard[-len(words) :] == words
    assert {"--node-rank=3", "--master-addr=first-host"} <= set(heard)
    assert not (tmp_path / "gone").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--nodes", 2), "--host ADDRESS:PORT"),
        (("--nodes", 2, "--host", "h", "--node-rank", 2), "numbered from 0 to 1"),
        (("--host", "h:port"), "--host h:port"),
        (("--host", "h:99999"), "--host h:99999"),
        (("--host", "fe80::1:2950"), "--host fe80::1:2950"),
        (("--host", "a b;rm:2950"), "--host a b;rm:2950"),
        (("--slurm", "--ranks-per-node", 2, "--host", "h:1"), "leave --host out"),
        (("--slurm", "--nodes", 2), "--ranks-per-node"),
        (("--ranks-per-node", 2, "--set", "run.ranks=3"), "give one of them"),
        (("--ranks-per-node", 2, "--set", "optim.offload=true"), "for one process"),
        (("--set", "run.rnaks=2"), "did you mean `ranks`"),
    ],
)
def test_what_cannot_be_is_said(arguments, words, capsys):
    assert here("launch", QUICKSTART, "--dry-run", *arguments) == 2
    assert words in capsys.readouterr().err


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """A folder with a run under `runs/`."""
    place = tmp_path_factory.mktemp("begun")
    short = {
        "warm_start": "null",
        "run__steps": 1,
        "eval__every": 0,
        "eval__limit": 2,
        "optim__minibatches": 1,
    }
    assert here(*small(place / "runs", **short)) == 0
    return place


def resumed(capsys, *arguments):
    """The lines of a dry run that takes up `last`."""
    assert here("launch", "--resume", "last", "--dry-run", *arguments) == 0
    return [shlex.split(line) for line in capsys.readouterr().out.splitlines()]


def test_a_run_is_taken_up_by_its_folder(begun, capsys, monkeypatch):
    """`last` may be another run by the time that the other machines look."""
    monkeypatch.chdir(begun)
    (words,) = resumed(capsys, "--ranks-per-node", 3, "--set", "run.steps=9")
    assert words[2:] == [
        "--nproc-per-node=3", "-m", "rlvr.cli.app", "train", "--resume", "runs/run", "--set", "run.steps=9",
    ]  # fmt: skip
    lines = resumed(
        capsys, "--nodes", 3, "--ranks-per-node", 8, "--host", "10.0.0.1", "--unsafe-no-isolation"
    )
    assert [f"--node-rank={number}" in line for number, line in enumerate(lines)] == [True] * 3
    assert all(line[-4:] == ["train", "--resume", "runs/run", "--unsafe-no-isolation"] for line in lines)
    assert here("launch", "--resume", "run", "--slurm", "--nodes", 4, "--ranks-per-node", 8) == 0
    inner = shlex.split(capsys.readouterr().out.splitlines()[-1])[-1]
    assert shlex.split(inner)[-3:] == ["train", "--resume", "runs/run"]


@pytest.mark.parametrize(
    ("arguments", "words", "code"),
    [
        (("quickstart", "--resume", "last"), "not both", 2),
        ((), "`rlvr launch --resume RUN`", 2),
        (("--resume", "rnu"), "did you mean `run`?", 3),
        (("--resume", "last", "--set", "run.seed=2"), "a run goes on as it began", 2),
        (("--resume", "last", "--ranks-per-node", 2, "--set", "run.ranks=3"), "or --set run.ranks=2", 2),
    ],
)
def test_what_cannot_be_taken_up_is_said(begun, capsys, monkeypatch, arguments, words, code):
    monkeypatch.chdir(begun)
    assert here("launch", *arguments, "--dry-run") == code
    assert words in capsys.readouterr().err


TOO_MANY = RANKS_A_CORE * os.cpu_count() + 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--ranks-per-node", 100000, "--dry-run"), f"a run has at most {MOST}"),
        (("--ranks-per-node", 100000), f"a run has at most {MOST}"),
        (("--ranks-per-node", 8, "--nodes", 100000, "--slurm"), f"a run has at most {MOST}"),
        (("--set", "run.ranks=100000", "--dry-run"), f"a run has at most {MOST}"),
        (("--ranks-per-node", TOO_MANY, "--set", "model.device=cpu"), f"room for {TOO_MANY - 1} "),
        (("--ranks-per-node", 0), "Invalid value for '--ranks-per-node'"),
        (("--ranks-per-node", -1), "Invalid value for '--ranks-per-node'"),
        (("--nodes", 0), "Invalid value for '--nodes'"),
        (("--nodes", -3), "Invalid value for '--nodes'"),
        (("--node-rank", -1), "Invalid value for '--node-rank'"),
        (("--ranks-per-node", "many"), "Invalid value for '--ranks-per-node'"),
    ],
)
def test_counts_that_cannot_be_are_refused(arguments, words, capsys):
    assert here("launch", QUICKSTART, *arguments) == 2
    assert words in " ".join(capsys.readouterr().err.replace("│", " ").split())


def test_train_refuses_such_counts_too(capsys):
    assert here("train", QUICKSTART, "--set", "model.device=cpu", "--set", f"run.ranks={TOO_MANY}") == 2
    assert f"it has room for {TOO_MANY - 1} (" in capsys.readouterr().err


def test_how_to_go_on_depends_on_where_it_ran(tmp_path):
    assert go_on(tmp_path, ["a", "a"]) == f"continue with: rlvr train --resume {tmp_path}"
    assert f"(on 2 machines: rlvr launch --resume {tmp_path}, " in go_on(tmp_path, ["a", "b", "a"])


def test_addresses():
    assert address_of("10.0.0.1:1234") == ("10.0.0.1", 1234)
    assert address_of("first") == ("first", PORT)
    assert address_of("[fe80::1]:2950") == ("fe80::1", 2950)
    assert command(Place(ranks=2), ["train", "x"])[1] == "--standalone"
