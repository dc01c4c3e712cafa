"""One server of a fleet, and how it takes new weights."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from rlvr.rollout.broadcast import Broadcast, described, own_address
from rlvr.rollout.parcel import Parcel
from rlvr.rollout.replica import Client, Replica, ReplicaError
from rlvr.rollout.vllm_settings import ADAPTER


@dataclass(slots=True, kw_only=True)
class Member:
    """A server and what is known of it."""

    client: Client
    replica: Replica | None
    gpus: Sequence[int] = ()
    lock: threading.RLock = field(default_factory=threading.RLock)
    """Held while its weights change or it is started anew."""
    asked: dict[int, float] = field(default_factory=dict)
    """Requests on their way, by index, with the time they were sent."""
    trouble: str = ""
    """Why it cannot be asked now."""
    is_mending: bool = False
    failures: int = 0
    backend: str | None = None
    """Of the process group that carries weights; None where files do."""
    workers: int = 1
    """Processes of the server that take part in it."""
    group: Broadcast | None = None
    is_groupless: bool = False
    """Whether the group has failed once: from then on files carry the weights."""
    incarnation: int = 0
    """Times it was mended: a failure of an earlier one is no trouble of this one."""
    has_base: bool = False
    """Whether it holds the weights that an adapter is trained on."""

    def sync(self, parcel: Parcel, name: str, timeout_s: float, *, is_live: bool) -> None:
        """Put the weights in place while the server holds still, and call them `name` only then.

        `is_live`: the trainer's tensors are still of this version, so a group may send them.  ReplicaError
        and RefusedError leave the server paused: what it holds then must not sample.
        """
        client = self.client
        client.post("/pause?mode=keep", timeout_s=timeout_s)
        # Whoever keeps the server may have started it anew: then it has no weights of this run.
        held = str((client.get("/weight_info", timeout_s=timeout_s) or {}).get("weight_version"))
        self.has_base &= held.partition(":")[0] == name.partition(":")[0]
        if not (parcel.adapter and self.has_base):
            client.call("rlvr_drop_update", timeout_s=timeout_s)
            if self.backend is not None and is_live and not self.is_groupless:
                self._broadcast(parcel, timeout_s)
            else:
                client.post("/init_weight_transfer_engine", {"init_info": {}}, timeout_s=timeout_s)
                client.post("/start_weight_update", timeout_s=timeout_s)
                self._update(parcel, {"path": parcel.base.file()}, timeout_s)
            client.post("/finish_weight_update", {}, timeout_s=timeout_s)
            self.has_base = True
        if parcel.adapter:
            adapter = {"lora_name": ADAPTER, "lora_path": parcel.adapter, "load_inplace": True}
            client.post("/v1/load_lora_adapter", adapter, timeout_s=timeout_s)
        client.post("/update_weight_version", {"new_version": name}, timeout_s=timeout_s)
        client.post("/resume", timeout_s=timeout_s)

    def _update(self, parcel: Parcel, how: Mapping[str, Any], timeout_s: float) -> None:
        info = {"checksums": parcel.base.checksums, **how}
        self.client.post("/update_weights", {"update_info": info}, timeout_s=timeout_s)

    def _broadcast(self, parcel: Parcel, timeout_s: float) -> None:
        """Send the trainer's tensors while the server receives them."""
        with ThreadPoolExecutor(1) as other:
            try:
                if self.group is None:
                    group = Broadcast(
                        host=own_address(self.client.url),
                        port=0,
                        rank=0,
                        size=1 + self.workers,
                        backend=str(self.backend),
                        timeout_s=timeout_s,
                    )
                    meeting = {"meeting": group.place()}
                    there = other.submit(
                        self.client.post,
                        "/init_weight_transfer_engine",
                        {"init_info": meeting},
                        timeout_s=timeout_s,
                    )
                    group.meet()
                    there.result()
                    self.group = group
                self.client.post("/start_weight_update", timeout_s=timeout_s)
                there = other.submit(self._update, parcel, {"group": described(parcel.live)}, timeout_s)
                self.group.send(tensor for _, tensor in parcel.live)
                there.result()
            except RuntimeError as error:  # torch's own
                self.group, self.is_groupless = None, True
                raise ReplicaError(
                    f"a process group brought no weights ({str(error).splitlines()[0]}); files do from now on"
                ) from error
            except BaseException:
                self.group, self.is_groupless = None, True
                raise
