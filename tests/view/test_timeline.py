"""The table of where the time went, from rows alone: those of today, those sampled ahead, and older ones."""

import io
import re

import pytest
from rich.console import Console

from rlvr.runs.reader import Row
from rlvr.view.timeline import memory, shares, timeline


def row(step, **metrics):
    return Row(
        kind="train", step=step, time=0.0, metrics={k.replace("__", "/"): v for k, v in metrics.items()}
    )


def shown(rows):
    out = io.StringIO()
    Console(file=out, width=100).print(timeline(rows))
    rows = [re.split(r"\s{2,}", line.strip()) for line in out.getvalue().splitlines()[1:]]
    return {cells[0]: cells[1:] for cells in rows}


TURNS = [
    row(1, time__sample_s=1.0, time__update_s=2.0, time__eval_s=4.0, time__other_s=1.0, time__step_s=8.0,
        rollout__tokens_per_s=3000.0, time__update_mfu_share=0.1, time__update_tokens_per_s=100.0,
        memory__update_bytes=3 * 2**20, time__wait_s=0.0),
    row(2, time__sample_s=3.0, time__update_s=6.0, time__eval_s=0.0, time__other_s=3.0, time__step_s=12.0,
        rollout__tokens_per_s=1000.0, time__update_mfu_share=0.3, time__update_tokens_per_s=500.0,
        memory__update_bytes=2 * 2**20, time__wait_s=0.0),
]  # fmt: skip


def test_seconds_and_shares_add_up_and_rates_are_those_of_all_steps():
    said = shown(TURNS)
    assert list(said) == ["update", "sample", "eval", "other", "step"], "longest first, nothing without time"
    assert said["update"] == ["4.000", "40.0%", "400", "25.0%", "3 MiB"]
    assert said["sample"] == ["2.000", "20.0%", "1.5k"]
    assert said["step"][0] == "10.000"
    assert sum(float(cells[1][:-1]) for name, cells in said.items() if name != "step") == pytest.approx(100)
    assert shares(TURNS[1]) == "update 50%  sample 25%  other 25%"


def test_what_ran_beside_the_trainer_is_shown_and_not_added():
    ahead = row(
        1, time__wait_s=1.0, time__update_s=3.0, time__other_s=0.0, time__step_s=4.0, time__sample_s=0.0,
        time__ahead_sample_s=3.5, time__ahead_verify_s=0.0, rollout__tokens_per_s=2000.0,
    )  # fmt: skip
    said = shown([ahead])
    assert list(said) == ["update", "wait", "step", "beside: sample"]
    assert said["update"][1] == "75.0%"
    assert said["beside: sample"] == ["3.500", "2.0k"]
    assert shares(ahead) == "update 75%  wait 25%"


def test_rows_of_older_runs_are_still_shown():
    said = shown([row(1, time__sample_s=1.0, time__update_s=2.0)])
    assert said["update"][:2] == ["2.000", "66.7%"]
    assert shown([row(1, reward__mean=0.5)]) == {}
    assert shares(row(1, reward__mean=0.5)) == ""


def test_memory_in_words():
    assert (memory(2**29), memory(1.5 * 2**30)) == ("512 MiB", "1.5 GiB")
