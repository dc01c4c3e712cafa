"""Checkpoints are whole or not there: flipped bytes, killed writers, full disks.  Transformers loads them."""

import gc
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from rlvr.errors import RunError
from rlvr.policy import checkpoint
from rlvr.policy.model import add_lora, load_lora, load_model
from tests.tiny import saved, tiny

FILES = ("state.json", "trainer.pt", "memory.pt", "model/weights.pt", "model/config.json")


def save(folder, step, keep=3, model=None):
    """A checkpoint of a small matrix and its optimizer, both made from the step."""
    model = model or torch.nn.Linear(8, 8)
    with torch.no_grad():
        model.weight.fill_(step)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 8)).sum().backward()
    optimizer.step()

    def write_model(place):
        place.mkdir()
        torch.save(model.state_dict(), place / "weights.pt")
        (place / "config.json").write_text('{"made": true}')

    return checkpoint.save(
        folder,
        f"step-{step:06d}",
        write_model=write_model,
        optimizers=[optimizer],
        state={"step": step},
        keep=keep,
        memory={
            "rates": {"right": torch.full((3,), step / 7, dtype=torch.float64)},
            "stored": [{"text": "a"}],
        },
    ), optimizer


def newest(folder):
    """(step of the newest whole checkpoint, what was said about damaged ones)."""
    said = []
    found = checkpoint.latest(folder, on_damage=said.append)
    return found and found.state["step"], said


def names(folder):
    return sorted(p.name for p in folder.iterdir())


def test_round_trip(tmp_path):
    path, optimizer = save(tmp_path, 7)
    found = checkpoint.latest(tmp_path, on_damage=pytest.fail)
    assert found.path == path
    assert dict(found.state) == {"step": 7}
    assert found.memory()["rates"]["right"].tolist() == [1.0, 1.0, 1.0]
    assert found.memory()["stored"] == [{"text": "a"}]
    (state,) = found.optimizer_states()
    for key, value in optimizer.state_dict()["state"][0].items():
        assert torch.equal(state["state"][0][key], value)
    assert torch.load(found.model / "weights.pt")["weight"].shape == (8, 8)
    assert names(tmp_path) == ["step-000007"]


@pytest.mark.parametrize("file", [*FILES, "hashes.json"])
def test_a_flipped_byte_is_noticed_and_the_older_one_is_used(tmp_path, file):
    save(tmp_path, 1)
    path, _ = save(tmp_path, 2)
    assert newest(tmp_path) == (2, [])
    data = bytearray((path / file).read_bytes())
    data[len(data) // 2] ^= 1
    (path / file).write_bytes(data)
    step, said = newest(tmp_path)
    assert step == 1
    assert len(said) == 1
    assert "step-000002 is damaged" in said[0]
    assert "an older one is used" in said[0]
    if file != "hashes.json":
        assert file in said[0]


@pytest.mark.parametrize("file", [*FILES, "hashes.json"])
def test_a_missing_file_is_noticed(tmp_path, file):
    save(tmp_path, 1)
    path, _ = save(tmp_path, 2)
    (path / file).unlink()
    step, said = newest(tmp_path)
    assert step == 1
    assert file in said[0]


def test_without_a_whole_one_there_is_none(tmp_path):
    assert newest(tmp_path / "absent") == (None, [])
    path, _ = save(tmp_path, 3)
    (path / "hashes.json").write_text("{")
    step, said = newest(tmp_path)
    assert step is None
    assert len(said) == 1


def test_keep_and_order(tmp_path):
    for name in ("warm-000900", "step-000000", "step-000009", "step-000010", "step-1000000"):
        checkpoint.save(tmp_path, name, write_model=Path.mkdir, optimizers=[], state={"step": name}, keep=3)
    assert names(tmp_path) == ["step-000009", "step-000010", "step-1000000"]
    assert newest(tmp_path) == ("step-1000000", [])
    assert checkpoint.latest(tmp_path, on_damage=pytest.fail).memory() is None


def test_a_step_outranks_every_warm_start(tmp_path):
    for name in ("step-000000", "warm-000900"):
        checkpoint.save(tmp_path, name, write_model=Path.mkdir, optimizers=[], state={"step": name}, keep=3)
    assert newest(tmp_path) == ("step-000000", [])


def test_leftovers_of_a_killed_writer_are_no_checkpoint_and_go(tmp_path):
    save(tmp_path, 1)
    (tmp_path / ".step-000002.tmp" / "model").mkdir(parents=True)
    assert newest(tmp_path) == (1, [])
    checkpoint.remove_leftovers(tmp_path)
    assert names(tmp_path) == ["step-000001"]


def test_a_failing_model_writer_leaves_nothing(tmp_path):
    save(tmp_path, 1)

    def write_model(place):
        place.mkdir()
        (place / "half").write_text("a")
        raise OSError("no more")

    with pytest.raises(RunError, match=r"step-000002.*no more.*earlier checkpoints are whole"):
        checkpoint.save(tmp_path, "step-000002", write_model=write_model, optimizers=[], state={}, keep=1)
    assert names(tmp_path) == ["step-000001"]


WRITERS = """
import os
import sys
from itertools import count
from pathlib import Path
import torch
from rlvr.policy import checkpoint

folder = Path(sys.argv[1])
model = torch.nn.Linear(256, 256)
optimizer = torch.optim.AdamW(model.parameters())
model(torch.ones(1, 256)).sum().backward()
optimizer.step()

def write_model(place):
    place.mkdir()
    torch.save(model.state_dict(), place / "weights.pt")

for line in sys.stdin:  # a fork a line: torch is imported once
    pid = os.fork()
    if pid:
        print(pid, flush=True)
        os.waitpid(pid, 0)
        print("gone", flush=True)
        continue
    for step in count(int(line)):
        checkpoint.save(folder, f"step-{step:06d}", write_model=write_model, optimizers=[optimizer],
                        state={"step": step}, keep=2)
        print(step, flush=True)
"""


@pytest.mark.slow
def test_a_killed_writer_leaves_only_whole_checkpoints(tmp_path):
    """SIGKILL at many moments of a save: what is visible verifies, what was said to be saved is there."""
    folder = tmp_path / "checkpoints"
    step, unfinished = 0, 0
    command = [sys.executable, "-c", WRITERS, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        for attempt in range(30):
            print(step + 1, file=parent.stdin, flush=True)
            writer = int(parent.stdout.readline())
            said = [int(parent.stdout.readline())]
            started = time.monotonic()
            said.append(int(parent.stdout.readline()))
            share = attempt / 30 if attempt % 2 else 0.85 + attempt / 150  # half of them where it is renamed
            time.sleep(share * (time.monotonic() - started))
            os.kill(writer, signal.SIGKILL)
            said += [int(line) for line in iter(parent.stdout.readline, "gone\n")]
            unfinished += any(name.startswith(".") for name in names(folder))
            found, damage = newest(folder)
            assert damage == []
            assert found >= said[-1] > step
            for path in folder.glob("step-*"):
                assert checkpoint._fault(path) is None
                torch.load(path / "model" / "weights.pt")
            checkpoint.remove_leftovers(folder)
            assert all(name.startswith("step-") for name in names(folder))
            step = found
        parent.stdin.close()
    assert unfinished, "no writer was killed in the middle of a save: the test proved nothing"


@pytest.fixture
def small_disk(tmp_path):
    """A file system of half a MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(place)]
    try:
        mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("no mount command here")
    if mounted.returncode:
        pytest.skip(f"a small file system cannot be mounted: {mounted.stderr.strip()}")
    yield place
    gc.collect()  # the failed writer's file stays open as long as its traceback lives
    subprocess.run(["umount", str(place)], check=True)


@pytest.mark.parametrize("spare", [40_000, 2_000, 0])
def test_a_full_disk_is_explained_and_costs_nothing(small_disk, spare):
    folder = small_disk / "checkpoints"
    save(folder, 1)
    filler = small_disk / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))
    assert shutil.disk_usage(small_disk).free == 0
    if spare:
        os.truncate(filler, filler.stat().st_size - spare)
    before = names(folder)
    with pytest.raises(RunError, match="could not be written") as failure:
        save(folder, 2, model=torch.nn.Linear(8, 4096))
    assert "earlier checkpoints are whole" in str(failure.value)
    assert names(folder) == before
    assert newest(folder) == (1, [])
    filler.unlink()
    save(folder, 2)
    assert newest(folder) == (2, [])


def saved_model(folder, model, tokenizer):
    def write_model(place):
        model.save_pretrained(place)
        tokenizer.save_pretrained(place)

    checkpoint.save(folder, "step-000001", write_model=write_model, optimizers=[], state={}, keep=1)
    return checkpoint.latest(folder, on_damage=pytest.fail).model


IDS = torch.arange(6, 46)[None]


def test_transformers_loads_the_model_and_says_the_same(tmp_path):
    model, tokenizer = tiny()
    place = saved_model(tmp_path, model, tokenizer)
    loaded = AutoModelForCausalLM.from_pretrained(place)
    assert torch.equal(loaded(IDS).logits, model(IDS).logits)
    again = AutoTokenizer.from_pretrained(place)
    text = "Ana has 6. How many does Ana have?"
    assert again.encode(text) == tokenizer.encode(text)
    assert again.chat_template == tokenizer.chat_template


def test_transformers_loads_an_adapter_and_says_the_same(tmp_path):
    base = load_model(str(saved(tmp_path / "base")), revision=None, dtype="float32", device="cpu")
    model = add_lora(base, rank=4, alpha=8.0, targets="all-linear", seed=0)
    _, tokenizer = tiny("bytes")
    with torch.no_grad():
        untouched = model(IDS).logits
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.3)
        expected = model(IDS).logits
        assert (expected - untouched).abs().max() > 0.1
        place = saved_model(tmp_path / "checkpoints", model, tokenizer)
        loaded = AutoModelForCausalLM.from_pretrained(place)
        torch.testing.assert_close(loaded(IDS).logits, expected, atol=1e-6, rtol=0)
        fresh = load_model(str(tmp_path / "base"), revision=None, dtype="float32", device="cpu")
        resumed = load_lora(fresh, place)
        torch.testing.assert_close(resumed(IDS).logits, expected, atol=1e-6, rtol=0)
    trainable = {name for name, p in resumed.named_parameters() if p.requires_grad}
    assert trainable
    assert all("lora" in name for name in trainable)
    assert AutoTokenizer.from_pretrained(place).chat_template == tokenizer.chat_template
