"""The math verifier against labelled cases and public golds: the measures of scripts/bench_math, bounded."""

import signal
import subprocess
import sys
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader

import pytest

from tests.checkout import ROOT

MOST_WRONG, MOST_PASSED, MOST_REFUSED = 5.0, 0.7, 8.0
"""Percent of the uncontested rows, of the false ones, and of the true ones."""
LEAST_OWN, MOST_SPOILT = 99.9, 0.1
"""Percent of the golds that equal themselves, and of the spoilt ones that pass."""
TOLD = 20


@pytest.fixture(scope="module")
def bench():
    """The script as a module, and nothing written beside it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "scripts")
        patch.setattr(sys, "dont_write_bytecode", True)
        loader = SourceFileLoader("bench_math", str(ROOT / "scripts" / "bench_math"))
        module = module_from_spec(spec_from_loader(loader.name, loader))
        patch.setitem(sys.modules, loader.name, module)
        loader.exec_module(module)
        yield module


def needs(path):
    if not path.exists():
        pytest.skip(f"no data: {path.relative_to(ROOT.parent)} is not beside the repository")


def told(faults):
    return "\n".join(map(str, [len(faults), *faults[:TOLD]]))


def test_labelled_cases(bench):
    needs(bench.CASES)
    rows = [row for row in bench.cases(bench.CASES) if not row.contested]
    replies = bench.graded(bench.OURS, [(row.completion, row.gold) for row in rows])
    assert len(rows) > 800
    graded = list(zip(rows, replies, strict=True))
    right, passed, refused = bench.score(graded)
    faults = [
        f"{row.category}: {row.gold!r} ~ {row.pred[-100:]!r} is {row.expected}: {reply.why}"
        for row, reply in graded
        if reply.is_right is not row.expected
    ]
    bounds = right >= 100 - MOST_WRONG and passed <= MOST_PASSED and refused <= MOST_REFUSED
    assert bounds, f"right {right:.2f} %, FP {passed:.2f} %, FN {refused:.2f} %\n{told(faults)}"
    assert not [reply for reply in replies if reply.status in ("error", "hang")]


@pytest.mark.parametrize("every", [5, pytest.param(1, marks=pytest.mark.slow)])
def test_golds_equal_themselves(bench, every):
    needs(bench.DATA)
    checked = [pair for pairs in bench.self_checks(bench.DATA, every).values() for pair in pairs]
    assert len(checked) > 40_000 / every
    refused = [f"{gold.text!r}: {reply.why}" for gold, reply in checked if not reply.is_right]
    assert 100 * len(refused) <= (100 - LEAST_OWN) * len(checked), told(refused)


@pytest.mark.parametrize("every", [10, pytest.param(1, marks=pytest.mark.slow)])
def test_spoilt_golds_are_refused(bench, every):
    needs(bench.DATA)
    checked = bench.spoilt_golds(bench.DATA, every)
    assert len(checked) > 30_000 / every
    passed = [
        f"{one.how}: {one.gold!r} -> {one.text!r}: {reply.why}" for one, reply in checked if reply.is_right
    ]
    assert 100 * len(passed) <= MOST_SPOILT * len(checked), told(passed)


SPOILT = {
    "18": {"19", "-18"},
    "-0.5": {"0.5"},
    "0": {"1"},
    r"\pm 3": {r"\pm 4", "3"},
    r"x = 1 \pm \sqrt{2}": {r"x = 2 \pm \sqrt{2}", r"x = 1 \pm \sqrt{3}", r"x = 1 + \sqrt{2}"},
    r"(-\infty, 2)": {r"(-\infty, 3)", r"(-\infty, 2]", r"(-\infty)"},
    r"x \le -3": {r"x \le -4", r"x \le 3", "x < -3"},
    r"\{1, 2\}": {r"\{2, 2\}", r"\{1, 3\}", r"\{1\}"},
    "$(1,1), (2,1)$": {"$(2,1), (2,1)$", "$(1,2), (2,1)$", "$(1,1), (3,1)$", "$(1,1), (2,2)$", "$(1,1)$"},
    "3x^2": {"4x^2", "-3x^2", "3x^3"},
    "5^{2}": {"6^{2}", "5^{3}", "-5^{2}"},
    r"5 \, m^2": {r"6 \, m^2", r"-5 \, m^2"},
    r"12 \text{ cm}^2": {r"13 \text{ cm}^2", r"-12 \text{ cm}^2"},
    "4210_{5}": {"4211_{5}", "-4210_{5}"},
    "x^2 = 0": set(),
    r"\sin 30": set(),
    r"\binom{5}{2}": set(),
    r"\frac{\pi}{4} + 2k\pi, k \in \mathbb{Z}": set(),
    "(-x)^2": {"(-x)^3"},
    r"\text{Evelyn}": set(),
    "Yes": set(),
}


@pytest.mark.parametrize("gold", SPOILT)
def test_what_spoils_a_gold_truly_changes_it(bench, gold):
    made = {text.strip() for _, text in bench.spoilt(gold)}
    assert made == SPOILT[gold]


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_a_check_that_hangs_or_ends_its_process_is_told_and_the_next_goes_on(bench, monkeypatch, how):
    monkeypatch.setattr(sys.modules["math_graders"], "HANG_S", 2.0)
    with bench.Grader(bench.OURS) as grader:
        first = list(grader.check([(r"\boxed{7}", "7"), ("", "7"), (r"\boxed{7}", None)]))
        assert [reply.status for reply in first] == ["right", "no_answer", "error"]
        grader.process.send_signal(how)
        replies = list(grader.check([(r"\boxed{7}", "7"), (r"\boxed{8}", "7")]))
    assert [reply.status for reply in replies] == ["hang", "wrong"]


@pytest.mark.parametrize("flag", ["--cases", "--data"])
def test_the_script_says_what_is_not_there(tmp_path, flag):
    command = [sys.executable, ROOT / "scripts" / "bench_math", "speed", flag, tmp_path / "none"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert flag in done.stderr
    assert str(tmp_path / "none") in done.stderr
