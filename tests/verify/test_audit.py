"""The audit: a deterministic sample, checked beside the training checks, whose faults are never scores."""

import time
from pathlib import Path

import pytest

from rlvr import build
from rlvr.recipe.schema import Audit, Verifier
from rlvr.train.audit import auditor_of
from rlvr.types import Completion, Group, Problem
from rlvr.verify.audit import Auditor, is_drawn
from rlvr.verify.pool import Pool, Spec
from tests.verify.test_compose import HERE, SPECS


def group(texts):
    completions = tuple(Completion(token_ids=(0,), logprobs=(0.0,), text=t, finish="stop") for t in texts)
    return Group(problem=Problem(id="p", messages=(), answer="one"), prompt_ids=(), completions=completions)


def audited(scorer, auditor, one, seed=7):
    pending = scorer.submit(one, seed)
    auditor.start(one, seed)
    (done,) = auditor.finish([pending.result()], lambda name, done, total: None)
    return done


def statuses(scored):
    return [audit and audit.status for audit in scored.audits]


def test_the_draw_is_a_function_of_seed_and_sibling_and_of_the_share_asked():
    for share in (0.05, 0.3, 0.9):
        drawn = [is_drawn(seed, i, share) for seed in range(500) for i in range(8)]
        assert sum(drawn) / len(drawn) == pytest.approx(share, abs=4 * (share * (1 - share) / 4000) ** 0.5)
        assert drawn == [is_drawn(seed, i, share) for seed in range(500) for i in range(8)]
    assert all(is_drawn(seed, 0, 1.0) for seed in range(100))
    small = {(s, i) for s in range(100) for i in range(8) if is_drawn(s, i, 0.1)}
    assert small < {(s, i) for s in range(100) for i in range(8) if is_drawn(s, i, 0.2)}
    siblings = [tuple(is_drawn(seed, i, 0.5) for i in range(8)) for seed in range(100)]
    assert len(set(siblings)) > 50, "seeds side by side draw alike"


def test_the_audit_changes_no_reward_and_its_faults_are_no_scores():
    texts = ["one", "half", "nan", "zero"]
    verifiers = [Verifier(name="./hostile.py:fair")]
    audit = Audit(name="./hostile.py:returns", share=1.0)
    with (
        build.scorer(verifiers, 1, HERE) as scorer,
        auditor_of(audit, 1, HERE) as auditor,
    ):
        plain = scorer.submit(group(texts), 7).result()
        done = audited(scorer, auditor, group(texts))
    assert (done.rewards, [v.status for v in done.verdicts]) == (
        plain.rewards,
        [v.status for v in plain.verdicts],
    )
    assert statuses(done) == ["right", "wrong", "error", "wrong"]
    assert plain.audits == ()


def test_only_the_sample_is_asked():
    verifiers = [Verifier(name="./hostile.py:fair")]
    texts = ["one"] * 16
    with (
        build.scorer(verifiers, 1, HERE) as scorer,
        auditor_of(Audit(name="./hostile.py:returns", share=0.4), 1, HERE) as auditor,
    ):
        done = audited(scorer, auditor, group(texts), seed=11)
        stranger = scorer.submit(group(texts)).result()
        assert auditor.finish([stranger], lambda *_: None) == [stranger]
    assert statuses(done) == ["right" if is_drawn(11, i, 0.4) else None for i in range(16)]
    assert 0 < sum(audit is not None for audit in done.audits) < 16


def test_without_an_audit_there_is_none():
    with auditor_of(None, 1, Path()) as auditor:
        assert auditor is None


def test_a_slow_audit_holds_up_no_check_that_trains(tmp_path):
    (tmp_path / "slow.py").write_text(
        "import time\nfrom rlvr import verifier\n\n\n@verifier\ndef slow(completion: str) -> bool:\n"
        "    time.sleep(0.5)\n    return True\n"
    )
    slow = Spec(name="./slow.py:slow", base_dir=tmp_path)
    with Pool(SPECS[:1], 1) as checks, Pool([slow], 1) as audits:
        scorer = build.Scorer(checks, SPECS[:1], "keep", 4, 10)
        auditor = Auditor(audits, 1.0)
        groups = [group(["one", "zero"]) for _ in range(3)]
        started, pending = time.monotonic(), []
        for seed, one in enumerate(groups):
            pending.append(scorer.submit(one, seed))
            auditor.start(one, seed)
        scored = [each.result() for each in pending]
        trained_s = time.monotonic() - started
        done = auditor.finish(scored, lambda *_: None)
        audited_s = time.monotonic() - started
    assert [s.rewards for s in scored] == [(1.0, 0.0)] * 3
    assert [statuses(one) for one in done] == [["right", "right"]] * 3
    assert audited_s >= 3.0
    assert trained_s < 0.5 * audited_s
