"""`rlvr launch` says what torchrun is asked, on each machine."""

import shlex

import pytest
from torch.distributed.run import config_from_args, parse_args

from rlvr.launch import PORT, Place, address_of, command, slurm
from tests.e2e.running import QUICKSTART, here


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
    assert here("launch", QUICKSTART, "--slurm", "--nodes", 4) == 0
    assert capsys.readouterr().out.startswith("#!/bin/bash\n")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--nodes", 2), "--host ADDRESS:PORT"),
        (("--nodes", 2, "--host", "h", "--node-rank", 2), "numbered from 0 to 1"),
        (("--host", "h:port"), "--host h:port"),
        (("--set", "run.rnaks=2"), "did you mean `ranks`"),
    ],
)
def test_what_cannot_be_is_said(arguments, words, capsys):
    assert here("launch", QUICKSTART, "--dry-run", *arguments) == 2
    assert words in capsys.readouterr().err


def test_addresses():
    assert address_of("10.0.0.1:1234") == ("10.0.0.1", 1234)
    assert address_of("first") == ("first", PORT)
    assert command(Place(ranks=2), ["train", "x"])[1] == "--standalone"
