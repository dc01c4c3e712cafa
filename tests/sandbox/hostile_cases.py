"""The hostile programs: ours beside this file, and the shared ones where the checkout has them next to it."""

import re
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
SHARED = HERE.parents[2] / "shared" / "cases" / "hostile"
EXPECTED = {1: 1049, 2: 2063, 3: 4099}
"""What `solve` must give: nothing that a program comes upon by chance."""
ENDS = {
    "wrong": {"ok"},
    "ok": {"ok"},
    "error": {"error"},
    "died": {"error"},
    "crashed": {"error"},
    "killed": {"error"},
    "seccomp": {"error"},
    "timeout": {"timeout"},
    "memory": {"memory"},
    "output": {"output"},
}
"""The words of a header, as our statuses."""


@dataclass(frozen=True)
class Case:
    """One hostile program."""

    name: str
    kind: str
    ends: frozenset[str]
    must_hold: str
    is_harmless: bool
    source: str


def read(path: Path) -> Case:
    source = path.read_bytes().decode("utf-8", "surrogateescape")
    head = dict(re.findall(r"^# ([a-z ]+): (.*)$", source, re.M))
    ends = frozenset().union(*(ENDS[word] for word in head["expect"].split("|")))
    return Case(
        name=head["name"],
        kind=head["kind"],
        ends=ends,
        must_hold=head["must hold"],
        is_harmless=head.get("harmless without walls") == "yes",
        source=source,
    )


OURS = [read(path) for path in sorted((HERE / "hostile").glob("*.py.txt"))]
THEIRS = [read(path) for path in sorted(SHARED.glob("*.py"))]
CONTROL = ("sys_read_secrets", "sys_net_bind", "sys_odd_sockets", "sys_proc_walk")
"""Of the shared ones, those that do no harm where nothing holds them."""
