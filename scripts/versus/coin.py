"""A reward that says nothing: for timing trainers with models that know nothing (scripts/bench_vs_trl)."""

import zlib

from rlvr.verify.api import verifier


@verifier
def coin(completion: str) -> bool:
    """Right for every second text, by its checksum."""
    return zlib.crc32(completion.encode()) % 2 == 0
