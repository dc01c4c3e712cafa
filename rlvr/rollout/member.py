"""One server of a fleet, and how it takes new weights."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

from rlvr.rollout.parcel import Parcel
from rlvr.rollout.replica import Client, Replica
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
    has_base: bool = False
    """Whether it holds the weights that an adapter is trained on."""

    def sync(self, parcel: Parcel, name: str, timeout_s: float) -> None:
        """Put the weights in place while the server holds still, and call them `name` only then.

        ReplicaError and RefusedError leave it paused: what it holds then must not sample.
        """
        client = self.client
        client.post("/pause?mode=keep", timeout_s=timeout_s)
        if not (parcel.adapter and self.has_base):
            client.call("rlvr_drop_update", timeout_s=timeout_s)
            client.post("/init_weight_transfer_engine", {"init_info": {}}, timeout_s=timeout_s)
            client.post("/start_weight_update", timeout_s=timeout_s)
            client.post("/update_weights", {"update_info": parcel.base}, timeout_s=timeout_s)
            client.post("/finish_weight_update", {}, timeout_s=timeout_s)
            self.has_base = True
        if parcel.adapter:
            adapter = {"lora_name": ADAPTER, "lora_path": parcel.adapter, "load_inplace": True}
            client.post("/v1/load_lora_adapter", adapter, timeout_s=timeout_s)
        client.post("/update_weight_version", {"new_version": name}, timeout_s=timeout_s)
        client.post("/resume", timeout_s=timeout_s)
