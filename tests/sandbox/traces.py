"""What a sandbox could leave behind: processes, descriptors, mounts."""

import os
import time
from pathlib import Path


def below(pid):
    """All descendants of a process, with the time that each began."""
    parents = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit() and (fields := stat(int(entry))):
            parents[int(entry)] = (int(fields[1]), fields[19])
    found, waiting = {}, [pid]
    while waiting:
        parent = waiting.pop()
        for child, (its_parent, began) in parents.items():
            if its_parent == parent and child not in found:
                found[child] = began
                waiting.append(child)
    return found


def stat(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return []


def gone(family, within_s):
    """Whether they have all ended in time; one that nobody has buried yet has ended."""
    deadline = time.monotonic() + within_s
    while left := [pid for pid, began in family.items() if runs(pid, began)]:
        if time.monotonic() > deadline:
            return not left
        time.sleep(0.01)
    return True


def runs(pid, began):
    fields = stat(pid)
    return bool(fields) and fields[19] == began and fields[0] != "Z"


def descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def mounts():
    return Path("/proc/self/mountinfo").read_text()
