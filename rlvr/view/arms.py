"""Several settings over several seeds as a picture: the mean of each arm, and its range over the seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rlvr.errors import RunError
from rlvr.runs.reader import Row, read_metrics
from rlvr.view.plots import draw

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Of the arms, in order: Okabe-Ito."""
PANELS = (
    ("training accuracy (%)", "verify/right_share", 100.0),
    ("pivot words (per 1000 tokens)", "pivot/rate", 1.0),
    ("probability of a pivot word (%)", "pivot/probability", 100.0),
    ("entropy (nats)", "policy/entropy_nats", 1.0),
)


def plot_arms(arms: Mapping[str, Sequence[Path]], out: Path) -> None:
    """Draw the runs of each arm, one a seed, into `out` (.svg or .png).

    Raises RunError where an arm has no finished step, or the suffix is another.
    """
    rows = {arm: [read_metrics(path) for path in paths] for arm, paths in arms.items()}
    for arm, runs in rows.items():
        if not any(row.kind == "train" for run in runs for row in run):
            raise RunError(f"nothing to draw: no run of `{arm}` has a finished step yet")
    draw(out, lambda: _figure(rows))


def _figure(rows: Mapping[str, Sequence[Sequence[Row]]]) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.5 * len(PANELS), 3.3), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(PANELS))
    for ax, (title, metric, scale) in zip(axes, PANELS, strict=True):
        for index, (arm, runs) in enumerate(rows.items()):
            _band(ax, runs, metric, scale, COLOURS[index % len(COLOURS)], arm)
        ax.set_title(title, loc="left", fontsize=11, color="#222222")
        ax.set_xlabel("step")
        ax.set_ylim(bottom=0)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    return figure


def _band(ax: Axes, runs: Sequence[Sequence[Row]], metric: str, scale: float, colour: str, name: str) -> None:
    """The mean over the seeds of each step, and between which values they lie."""
    by_step: dict[int, list[float]] = {}
    for row in (row for run in runs for row in run if row.kind == "train"):
        if (value := row.metrics.get(metric)) is not None:
            by_step.setdefault(row.step, []).append(scale * value)
    steps = sorted(by_step)
    means = [sum(by_step[step]) / len(by_step[step]) for step in steps]
    low, high = ([end(by_step[step]) for step in steps] for end in (min, max))
    ax.fill_between(steps, low, high, color=colour, alpha=0.15, linewidth=0)
    ax.plot(steps, means, color=colour, linewidth=2.0, label=name)
