"""First contact with a server that runs already: it answers, knows our key, and fits the run."""

from __future__ import annotations

import threading
from time import monotonic
from typing import Any

from rlvr.errors import EngineError
from rlvr.rollout.engine import Tell
from rlvr.rollout.replica import Client, RefusedError, ReplicaError, WrongKeyError
from rlvr.rollout.vllm_settings import VllmSettings, misfits, serve_command

POLL_S = 0.2


def contact(
    url: str, key: str, model: Any, settings: VllmSettings, *, patience_s: float, tell: Tell
) -> Client:
    """A client for the server at `url`; EngineError names what hinders and the command that mends it."""
    client = Client(url, key, connections=4096)
    command = serve_command(model, settings, url)
    try:
        silence = client.silence()
        if silence:
            tell(f"waiting for {url} ({silence}), up to {patience_s:g} s")
        wait(client, patience_s)
        (about, *_) = client.call("rlvr_about", timeout_s=settings.deadline_s)
        client.post("/abort_requests", {}, timeout_s=settings.deadline_s)
    except WrongKeyError as error:
        client.close()
        raise EngineError(
            f"vllm.servers: {url} runs, but its key differs from ours: give the file that it was started "
            "with as vllm.key_file (`rlvr eval --key-file`)"
        ) from error
    except (ReplicaError, RefusedError, ValueError) as error:
        client.close()
        raise EngineError(f"vllm.servers: {url} cannot be used: {error}. Start it with: {command}") from error
    faults = misfits(about, settings, int(model.config.get_text_config().vocab_size))
    if faults:
        client.close()
        raise EngineError(
            f"vllm.servers: {url} does not fit this run: {'; '.join(faults)}. Start it with: {command}"
        )
    return client


def wait(client: Client, deadline_s: float) -> None:
    """Until the server answers; ReplicaError says how it does not."""
    deadline = monotonic() + deadline_s
    while silence := client.silence():
        if monotonic() > deadline:
            raise ReplicaError(f"it did not answer for {deadline_s:g} s ({silence})")
        threading.Event().wait(POLL_S)
