"""Writes that are whole or not there at all, and a full disk explained."""

from __future__ import annotations

import errno
import json
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rlvr.errors import RunError

_DISK_WORDS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "writing there is not allowed",
    errno.EPERM: "writing there is not allowed",
}


@contextmanager
def disk_trouble(path: Path) -> Iterator[None]:
    """Turn a full, read-only or forbidden disk into a RunError that says what is free and what is safe."""
    try:
        yield
    except OSError as trouble:
        words = _DISK_WORDS.get(trouble.errno or 0, trouble.strerror or type(trouble).__name__)
        raise RunError(
            f"cannot write {path}: {words} ({_free(path)}). What was recorded before is whole and nothing "
            "of it is lost: make room or mend the permissions, then continue with `rlvr train --resume RUN`."
        ) from trouble


def _free(path: Path) -> str:
    there = next((p for p in (path, *path.parents) if p.exists()), Path("."))
    try:
        return f"{shutil.disk_usage(there).free:,} bytes free"
    except OSError:
        return "free space unknown"


def write_bytes_atomic(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Put `data` at `path` whole or not at all; `durable` waits until it would survive a power cut."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.tmp")
    with disk_trouble(path):
        try:
            with open(temporary, "wb") as file:
                file.write(data)
                file.flush()
                if durable:
                    os.fsync(file.fileno())
            os.replace(temporary, path)
            if durable:
                sync_folder(path.parent)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def write_json_atomic(path: Path, obj: Any, *, durable: bool = True) -> None:
    """`write_bytes_atomic` of strict JSON; raises ValueError on NaN and infinity."""
    text = json.dumps(obj, indent=2, allow_nan=False)
    write_bytes_atomic(path, (text + "\n").encode(), durable=durable)


def append_line(path: Path, line: str) -> None:
    """Add one durable line; on a full disk the file is cut back to what it was."""
    with disk_trouble(path), open(path, "ab", buffering=0) as file:
        size = file.tell()
        data = line.encode() + b"\n"
        try:
            while data:
                data = data[file.write(data) :]
            os.fsync(file.fileno())
        except BaseException:
            file.truncate(size)
            raise
    if size == 0:
        sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Make renames in `path` survive a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
