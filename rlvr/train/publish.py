"""Handing the policy's weights to the engines that sample with them, one on each rank that draws."""

from __future__ import annotations

from dataclasses import asdict

from rlvr.rollout.engine import Elsewhere
from rlvr.rollout.proof import Proof, prove
from rlvr.train.run import Run


def prove_engine(run: Run, step: int) -> None:
    """Give the engine its first weights; vLLM, which has its own copy, must prove that it took them."""
    whole = run.gathered()
    if run.engine.name == "hf":
        run.engine.load_weights(whole, step)
        return
    run.record.phase("prove that the engine takes weights")
    run.tell(f"proving that {run.engine.name} samples with the weights it is given")
    temperature = run.recipe.sampling.temperature

    def proven() -> Proof | None:
        if isinstance(run.engine, Elsewhere):
            return None
        return prove(run.engine, whole, step, context=run.renderer.context, temperature=temperature)

    with run.signals.deferred():
        proofs = [proof for proof in run.world.attempt(proven) if proof is not None]
    worst = max(proofs, key=lambda proof: proof.max_nats)
    run.tell(f"proven: its log-probabilities are within {worst.max_nats:.1g} nats of the trainer's")
    run.record.engine(run.engine.name, asdict(worst))


def load(run: Run, step: int) -> None:
    """Give the engine of each rank the weights of finished step `step`."""
    whole = run.gathered()
    run.world.attempt(lambda: run.engine.load_weights(whole, step))
