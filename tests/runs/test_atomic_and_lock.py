import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rlvr.errors import RunError
from rlvr.runs.atomic import append_line, disk_trouble, write_bytes_atomic, write_json_atomic
from rlvr.runs.folder import RunFolder

ROOT = Path(__file__).resolve().parents[2]


def start(program: str, *words: object) -> "subprocess.Popen[str]":
    """A real process that runs `program`; it says `ready` on its own."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "verifiers")])}
    process = subprocess.Popen(
        [sys.executable, "-c", program, *map(str, words)], stdout=subprocess.PIPE, text=True, env=environment
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def kill(process: "subprocess.Popen[str]") -> None:
    process.send_signal(signal.SIGKILL)
    process.wait(10)
    assert process.stdout is not None
    process.stdout.close()


# Nearly all of its time goes into writing, so that a kill hits the middle of a write.
WRITE_FOREVER = """
import itertools, sys
from pathlib import Path
from rlvr.runs.atomic import append_line, write_bytes_atomic
folder = Path(sys.argv[1])
letters = [letter * (8 << 20) for letter in (b"a", b"b", b"c")]
for i in itertools.count():
    write_bytes_atomic(folder / f"file-{i % 5}", letters[i % 3], durable=i % 50 == 0)
    append_line(folder / "lines", "x" * 5000)
    if i == 5:
        print("ready", flush=True)
"""


@pytest.mark.parametrize("delay_s", [0.01, 0.035, 0.06, 0.1])
def test_kill_in_the_middle_leaves_only_whole_files(tmp_path, delay_s):
    process = start(WRITE_FOREVER, tmp_path)
    time.sleep(delay_s)
    kill(process)
    visible = list(tmp_path.glob("file-*"))
    assert len(visible) == 5
    for path in visible:
        data = path.read_bytes()
        assert len(data) == 8 << 20
        assert data.count(data[:1]) == len(data)
    assert {len(line) for line in (tmp_path / "lines").read_bytes().split(b"\n")[:-1]} == {5000}


def test_failed_write_keeps_the_old_file_and_no_temporary(tmp_path):
    path = tmp_path / "a.json"
    write_json_atomic(path, {"a": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json_atomic(path, {"a": float("nan")})
    with pytest.raises(TypeError):
        write_bytes_atomic(path, "text")  # type: ignore[arg-type]  # on purpose
    assert json.loads(path.read_text()) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]


@pytest.fixture
def small_disk(tmp_path):
    """A file system of one MiB, where this machine lets us mount one."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small tmpfs needs root")
    place = tmp_path / "disk"
    place.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    try:
        mounted = subprocess.run(words, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount command")
    if mounted.returncode != 0:
        pytest.skip(f"this machine does not let us mount a tmpfs: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_full_disk_is_explained_and_loses_nothing(small_disk):
    path, log = small_disk / "a.bin", small_disk / "metrics.jsonl"
    write_bytes_atomic(path, b"old")
    append_line(log, "first")
    with pytest.raises(RunError, match=r"the disk is full \([\d,]+ bytes free\).*nothing of it is lost"):
        write_bytes_atomic(path, bytes(2 << 20))
    with pytest.raises(RunError, match="the disk is full"):
        append_line(log, "x" * (2 << 20))
    assert path.read_bytes() == b"old"
    assert log.read_text() == "first\n"
    assert sorted(p.name for p in small_disk.iterdir()) == ["a.bin", "metrics.jsonl"]
    write_bytes_atomic(path, b"new")
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize(("number", "words"), [(errno.EROFS, "read-only"), (errno.EACCES, "not allowed")])
def test_unwritable_places_are_explained(tmp_path, number, words):
    with pytest.raises(RunError, match=words), disk_trouble(tmp_path / "not" / "there"):
        raise OSError(number, os.strerror(number))


def test_any_other_trouble_is_said_too(tmp_path):
    with pytest.raises(RunError, match="No such file or directory"):
        write_bytes_atomic(tmp_path / "nowhere" / "a", b"")


HOLD = """
import os, sys, time
from pathlib import Path
from rlvr.runs.folder import RunFolder
with RunFolder(Path(sys.argv[1])).lock():
    if sys.argv[2] == "fork" and os.fork() == 0:
        sys.stdout.close(); os.close(1)
        time.sleep(4)
        os._exit(0)
    print("ready", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("child", ["none", "fork"])
def test_lock_is_refused_by_pid_and_freed_by_sigkill(tmp_path, child):
    folder = RunFolder.create(tmp_path, "a")
    assert not folder.is_locked()
    process = start(HOLD, folder.path, child)
    assert folder.is_locked()
    with pytest.raises(RunError, match=f"process {process.pid} on .*rlvr runs watch"), folder.lock():
        pass
    kill(process)
    assert not folder.is_locked()
    with folder.lock():
        assert folder.is_locked()
    assert not folder.is_locked()


def test_lock_survives_onlookers(tmp_path):
    folder = RunFolder.create(tmp_path, "a")
    with folder.lock():
        assert all(folder.is_locked() for _ in range(100))
        with pytest.raises(RunError, match=f"process {os.getpid()}"), folder.lock():
            pass
        assert folder.is_locked()


def test_create_refuses_an_existing_run_and_odd_names(tmp_path):
    RunFolder.create(tmp_path, "a")
    with pytest.raises(RunError, match=r"exists already: continue it with `rlvr train --resume"):
        RunFolder.create(tmp_path, "a")
    for name in ("", "..", "a/b", ".hidden"):
        with pytest.raises(RunError, match="plain folder name"):
            RunFolder.create(tmp_path, name)


def test_open_says_what_is_wrong_and_names_the_sibling(tmp_path):
    with pytest.raises(RunError, match=r"does not exist; .* holds no runs"):
        RunFolder.open(tmp_path / "quickstart")
    RunFolder.create(tmp_path, "quickstart").manifest.write_text("{}")
    with pytest.raises(RunError, match="does not exist; did you mean `quickstart`"):
        RunFolder.open(tmp_path / "quikstart")
    (tmp_path / "other").mkdir()
    with pytest.raises(RunError, match="no run folder"):
        RunFolder.open(tmp_path / "other")
    assert RunFolder.open(tmp_path / "quickstart").name == "quickstart"
