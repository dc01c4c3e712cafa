"""Phases of a timeline: they add up, a phase within a phase interrupts it, memory belongs to its phase."""

import time
from pathlib import Path

import pytest
import torch

from rlvr.train import clock as clocks
from rlvr.train.clock import PHASES, Clock, ProcessMeter, meter_of


def busy(seconds):
    ends = time.perf_counter() + seconds
    while time.perf_counter() < ends:
        pass


def test_a_lap_is_as_long_as_its_phases():
    clock, started = Clock(), time.perf_counter()
    busy(0.01)
    with clock.phase("update"):
        busy(0.02)
        with clock.phase("logprobs"):
            busy(0.04)
        busy(0.01)
    lap, ended = clock.lap(), time.perf_counter()
    assert sum(lap.seconds.values()) == pytest.approx(ended - started, abs=2e-3)
    assert set(lap.seconds) == {"other", "update", "logprobs"}
    assert lap.seconds["logprobs"] >= 0.04
    assert lap.seconds["update"] >= 0.03
    assert lap.seconds["other"] >= 0.01
    assert sum(clock.lap().seconds.values()) < 2e-3, "the next lap begins anew"


def test_an_error_ends_its_phase():
    clock = Clock()
    with pytest.raises(ValueError, match="no"), clock.phase("save"):
        raise ValueError("no")
    clock.lap()
    busy(0.002)
    assert set(clock.lap().seconds) == {"other"}


def test_a_phase_is_split_by_the_clock_of_who_worked_in_it():
    outer, started = Clock(), time.perf_counter()
    with outer.phase("wait"):
        inner = Clock()
        with inner.phase("sample"):
            busy(0.02)
            inner.count(7)
        busy(0.01)
        outer.split(inner.lap())
    lap = outer.lap()
    assert sum(lap.seconds.values()) == pytest.approx(time.perf_counter() - started, abs=2e-3)
    assert lap.seconds["sample"] >= 0.02
    assert lap.seconds["other"] >= 0.01
    assert 0 <= lap.seconds["wait"] < 5e-3, "what the inner clock does not know"
    assert lap.tokens == {"sample": 7}


def test_tokens_are_those_of_the_phase_they_were_read_in():
    clock = Clock()
    with clock.phase("update"):
        clock.count(3)
        with clock.phase("logprobs"):
            clock.count(5)
        clock.count(1)
    assert clock.lap().tokens == {"update": 4, "logprobs": 5}


@pytest.mark.skipif(meter_of(torch.device("cpu"), []) is None, reason="this system does not tell")
def test_the_peak_of_memory_is_that_of_its_phase():
    clock, size = Clock(ProcessMeter()), 200 * 2**20
    with clock.phase("update"):
        held = bytearray(size)
        held[::4096] = b"1" * len(held[::4096])
        del held
    with clock.phase("save"):
        pass
    peaks = clock.lap().peaks
    assert peaks["update"] - peaks["save"] == pytest.approx(size, rel=0.1)
    assert set(peaks) <= set(PHASES)


def test_memory_that_cannot_be_measured_is_left_out_and_said(monkeypatch):
    monkeypatch.setattr(clocks.ProcessMeter, "_RESET", Path("/proc/self/no-such-file/x"))
    notes = []
    assert meter_of(torch.device("cpu"), notes) is None
    assert len(notes) == 1
    assert "memory/* is left out" in notes[0]
    clock = Clock(None)
    with clock.phase("update"):
        pass
    assert clock.lap().peaks == {}
