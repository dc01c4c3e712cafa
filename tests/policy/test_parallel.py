"""What ranks decide together, and how a rank that hangs is told from those that wait for it."""

import os
import pickle
import re
import signal
import socket
import threading
import time
from datetime import timedelta

import pytest
import torch
import torch.distributed as dist

from rlvr.errors import EngineError, Interrupted, RankError
from rlvr.eval.record import OtherRecordError
from rlvr.policy.hearts import LOST, SILENCE_S, Hearts
from rlvr.policy.parallel import ONE, World, is_broken, join
from tests.spawned import spawn

PATIENCE_S = 6


def test_one_rank_does_all_and_raises_its_own():
    assert ONE.own([3, 1, 2]) == [3, 1, 2]
    assert ONE.merged([[3, 1, 2]]) == [3, 1, 2]
    assert ONE.attempt(lambda: 5) == [5]
    assert ONE.lead(lambda: 5) == 5
    with pytest.raises(ZeroDivisionError):
        ONE.attempt(lambda: 1 / 0)


@pytest.mark.parametrize("length", range(8))
@pytest.mark.parametrize(("count", "drawers"), [(3, 3), (3, 1), (2, 2)])
def test_shares_make_the_whole(length, count, drawers):
    whole = list(range(length))
    shares = [World(rank=rank, count=count, drawers=drawers).own(whole) for rank in range(count)]
    assert World(rank=0, count=count, drawers=drawers).merged(shares) == whole
    assert max(map(len, shares[:drawers])) - min(map(len, shares[:drawers])) <= 1


@pytest.mark.parametrize(
    "error", [Interrupted(2), OtherRecordError("it has changed"), EngineError("it broke")]
)
def test_errors_arrive_as_they_were_sent(error):
    error.teller = 1
    arrived = pickle.loads(pickle.dumps(error))
    assert (type(arrived), str(arrived), vars(arrived)) == (type(error), str(error), vars(error))


def fails(world, error, ranks):
    """What comes of an attempt that fails on some ranks."""

    def work():
        if world.rank in ranks:
            raise error
        return world.rank

    try:
        return world.attempt(work)
    except (EngineError, Interrupted) as raised:
        return type(raised).__name__, str(raised), raised.teller


def work(rank, folder):
    torch.set_num_threads(1)
    store = dist.FileStore(f"{folder}/meeting", 2)
    patience = timedelta(seconds=PATIENCE_S)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=2, timeout=patience)
    world = World(rank=rank, count=2, group=dist.new_group(backend="gloo", timeout=patience))
    held = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False) if rank == 0 else None
    port = world.lead(lambda: held.port)
    hearts = Hearts(
        dist.TCPStore("127.0.0.1", port), rank=rank, count=2, deadline_s=60.0, place=f"127.0.0.1:{port}"
    )
    hearts.doing = lambda: f"work of {rank}"
    hearts.start()
    found = {
        "nobody": fails(world, EngineError("x"), ()),
        "the second": fails(world, EngineError("it broke"), (1,)),
        "both": fails(world, EngineError(f"of {rank}"), (0, 1)),
        "a signal": fails(world, Interrupted(2), (1,)),
        "afterwards": fails(world, EngineError("x"), ()),
        "lead": world.lead(lambda: f"from {rank}"),
        "or": world.lead_or(lambda: "leads", lambda: "follows"),
    }
    if rank == 1:
        time.sleep(2.5 * PATIENCE_S)  # hangs, and its heart beats
    else:
        try:
            world.attempt(lambda: None)
        except Exception as error:  # noqa: BLE001 - whatever gloo says
            found["broken"] = is_broken(error)
            found["lost"] = hearts.lost()
    torch.save(found, f"{folder}/{rank}.pt")
    hearts.stop()
    time.sleep(1.0 if rank == 1 else 2.5 * PATIENCE_S)  # the store is the first one's


@pytest.mark.slow
def test_errors_are_everybodys_and_who_hangs_is_named(tmp_path):
    spawn(work, str(tmp_path))
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=False) for rank in (0, 1))
    for found in (first, second):
        assert found["nobody"] == found["afterwards"] == [0, 1]
        assert found["the second"] == ("EngineError", "it broke", 1)
        assert found["both"] == ("EngineError", "of 0", 0)
        assert found["a signal"] == ("Interrupted", "stopped by signal 2", 1)
        assert found["lead"] == "from 0"
    assert (first["or"], second["or"]) == ("leads", "follows")
    assert first["broken"]
    lost, words = first["lost"]
    assert lost == [1]
    assert re.match(r"rank 1 on \S+ \(process \d+\) keeps the others waiting: it was in `work of 1`", words)


@pytest.mark.slow
def test_who_asks_who_is_lost_keeps_nobody_waiting():
    """All were stopped for a while, and each one's connections have timed out."""
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    place = f"127.0.0.1:{store.port}"
    ranks = [
        Hearts(dist.TCPStore("127.0.0.1", store.port), rank=rank, count=2, deadline_s=60.0, place=place)
        for rank in (0, 1)
    ]
    for hearts in ranks:
        hearts.start()
    found = ranks[0].lost()  # this thread is the main one of both
    for hearts in ranks:
        hearts.stop()
    assert found[0] == []


def stands_still(rank, port, folder):
    """The first rank stops itself; what it says of itself as the first thing when it goes on."""
    store = dist.TCPStore("127.0.0.1", port)
    hearts = Hearts(
        dist.TCPStore("127.0.0.1", port), rank=rank, count=2, deadline_s=60.0, place=f"127.0.0.1:{port}"
    )
    hearts.start()
    time.sleep(2.0)
    if rank == 0:
        store.set("pid", str(os.getpid()))
        os.kill(os.getpid(), signal.SIGSTOP)
        torch.save((hearts.is_cut_off, hearts.lost()), f"{folder}/heard.pt")
    else:
        pid = int(store.get("pid"))
        time.sleep(SILENCE_S + 3.0)
        os.kill(pid, signal.SIGCONT)
        time.sleep(3 * SILENCE_S)
    hearts.stop()


@pytest.mark.slow
def test_a_rank_that_stood_still_does_not_take_itself_for_cut_off(tmp_path):
    """It heard nobody meanwhile, and says that it was itself."""
    meeting = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    spawn(stands_still, meeting.port, str(tmp_path))
    is_cut_off, (lost, words) = torch.load(tmp_path / "heard.pt")
    assert not is_cut_off
    assert lost == [1], "it waits for nobody"
    assert re.search(
        r"rank 0 on \S+ itself stood still for \d+ s \(it was stopped, or its machine busy\)", words
    )


def test_who_meets_nobody_says_so(monkeypatch):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    place = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    for name, value in place.items():
        monkeypatch.setenv(name, value)
    words = rf"rank 1 of 2 on .* did not meet the others at 127.0.0.1:{port} within 1 s"
    with pytest.raises(RankError, match=words), join("cpu", 1.0):
        pass


def test_an_ending_that_hangs_holds_nobody_up(monkeypatch):
    """The record's file system may be beyond the network that is cut."""
    ended = []
    monkeypatch.setattr("rlvr.policy.hearts.ENDING_S", 0.2)
    monkeypatch.setattr(os, "_exit", ended.append)
    hearts = Hearts(dist.HashStore(), rank=0, count=2, deadline_s=60.0, place="here")
    never = threading.Event()
    hearts.ending = lambda words: never.wait()
    hearts._end("rank 1 is lost", 0)
    never.set()
    assert ended == [LOST]
