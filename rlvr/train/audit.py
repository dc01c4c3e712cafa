"""The audit of a run: who checks a sample of each step's completions, and when that is waited for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from rlvr import build
from rlvr.recipe import schema
from rlvr.sandbox.offer import Offer
from rlvr.train.run import Run
from rlvr.train.stream import Taken
from rlvr.types import ScoredGroup
from rlvr.verify.audit import Auditor
from rlvr.verify.pool import Pool


@contextmanager
def auditor_of(
    audit: schema.Audit | None, workers: int, base_dir: Path, *, sandbox: Offer = build.NOT_ASKED
) -> Iterator[Auditor | None]:
    """Who checks a sample beside the training, in half as many processes; None without an audit."""
    if audit is None:
        yield None
        return
    spec = build.spec_of(audit.verifier, base_dir)
    with Pool([spec], max(1, workers // 2), sandbox=sandbox.named) as pool:
        yield Auditor(pool, audit.share)


def audited(run: Run, auditor: Auditor | None, taken: Taken) -> list[ScoredGroup]:
    """The groups with what the audit says of them: it had the whole step to find out."""
    if auditor is None:
        return taken.groups
    with run.clock.phase("audit"):
        own = auditor.finish(taken.groups, run.record.phase)
        told = run.world.attempt(lambda: {index: g.audits for index, g in enumerate(own) if g.audits})
    known = {index: audits for part in told for index, audits in part.items()}
    return [replace(group, audits=known.get(index, ())) for index, group in enumerate(own)]
