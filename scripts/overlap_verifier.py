"""The verifier of scripts/bench_overlap: a coin, slow for a few texts, as a judge far away may be."""

import hashlib
import time

from rlvr import verifier


@verifier
def coin(completion: str, *, one_in: int = 0, seconds: float = 3.0) -> bool:
    """Right for half of all texts; `seconds` late for one text in `one_in`, for none where that is 0."""
    number = int.from_bytes(hashlib.sha256(completion.encode()).digest()[:8])
    if one_in and number % one_in == 0:
        time.sleep(seconds)
    return number // max(one_in, 1) % 2 == 0
