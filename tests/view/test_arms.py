"""Arms over seeds as a picture."""

import pytest

from rlvr.errors import RunError
from rlvr.runs.writer import Record
from rlvr.types import StepReport
from rlvr.view.arms import plot_arms
from tests.runs.made import folder


def run(parent, name, values):
    made = folder(parent, name)
    record = Record(made, None)
    for step, value in enumerate(values, 1):
        numbers = {"verify/right_share": value, "pivot/rate": 10 * value, "policy/entropy_nats": value / 2}
        record.step(step, [], StepReport(metrics=numbers))
    return made.path


def test_each_arm_is_drawn_with_its_seeds(tmp_path):
    low = [run(tmp_path, f"low-{seed}", [0.1, 0.2, 0.1 * seed]) for seed in (1, 2)]
    high = [run(tmp_path, f"high-{seed}", [0.5, 0.6, 0.3 * seed]) for seed in (1, 2)]
    plot_arms({"low": low, "high": high}, tmp_path / "a.svg")
    plot_arms({"low": low, "high": high}, tmp_path / "b.svg")
    plot_arms({"low": low, "high": low}, tmp_path / "c.svg")
    first, again, other = ((tmp_path / f"{name}.svg").read_bytes() for name in "abc")
    assert first == again
    assert first != other
    plot_arms({"low": low}, tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_what_cannot_be_drawn_is_said(tmp_path):
    with pytest.raises(RunError, match="no run of `none` has a finished step"):
        plot_arms({"none": [folder(tmp_path, "empty").path]}, tmp_path / "a.svg")
    with pytest.raises(RunError, match=r"ends in .svg or .png; try `a.svg`"):
        plot_arms({}, tmp_path / "a.pdf")
