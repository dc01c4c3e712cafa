"""A look before spending (`rlvr train RECIPE --probe`): what the model does with the recipe's first problems.

Nothing is trained and no run folder is made.  The recipe's own prompt is asked with as many completions as a
verdict wants (start.py); every other prompt of PROMPTS that the data set can wear, with fewer.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence

from rlvr import build
from rlvr.errors import ProblemsError, TrainingError
from rlvr.eval.stats import Interval, interval
from rlvr.policy.logprobs import completion_logprobs
from rlvr.policy.packing import misfit, packed_attention
from rlvr.problems.prompts import PROMPTS, Renderer
from rlvr.problems.sampler import Sampler, completion_seed
from rlvr.problems.sources import Source
from rlvr.recipe.load import Loaded
from rlvr.recipe.schema import Recipe
from rlvr.rollout.engine import Engine, Tell, log
from rlvr.rollout.proof import prove
from rlvr.runs.accounting import tally
from rlvr.train.engines import engine_of
from rlvr.train.start import WRONG_COMPLETIONS, WRONG_PROBLEMS, Start, hopeless
from rlvr.types import Problem, Request, Sampling, ScoredGroup
from rlvr.verify.compose import Scorer

OTHER_COMPLETIONS = 2
"""Completions a problem with another prompt than the recipe's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What completions with one prompt are like."""

    prompt: str
    """Its name in PROMPTS, or the recipe's own text."""
    start: Start
    """Counts."""
    pass_rate: Interval
    """95 % interval of the share of right completions, clustered over problems."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """What a probe found."""

    own: Look
    """With the recipe's prompt."""
    others: tuple[Look, ...]
    """With the other prompts, on the same problems; empty where the data set writes its own prompts."""
    hopeless: str | None
    """Why nothing can be learned, and what to change; None where there is hope, or a warm start to come."""
    has_warm_start: bool
    """Whether a warm start comes before the run's first step: this is the model before it."""
    tokens: float
    """Tokens that the run would sample for training, at the length seen now."""
    sample_s: float
    """Seconds of sampling and checking of all steps, on this machine."""
    update_s: float
    """Seconds of forward and backward passes of all steps."""
    eval_s: float
    """Seconds of sampling of all evaluations; endless benchmarks are not counted."""

    @property
    def better(self) -> Look | None:
        """The best other prompt, where its interval lies above that of the recipe's."""
        best = max(self.others, key=lambda look: look.pass_rate.low, default=None)
        return best if best is not None and best.pass_rate.low > self.own.pass_rate.high else None


def probe(
    loaded: Loaded,
    *,
    environment_data_dir: str | None,
    stack: ExitStack,
    tell: Tell = log,
    unsafe: bool = False,
) -> Probe:
    """Sample and time; all is closed when `stack` unwinds.  Raises what opening the run would raise."""
    recipe, base_dir = loaded.recipe, loaded.path.parent.resolve()
    torch.set_num_threads(recipe.run.threads or os.cpu_count() or 1)
    folder = build.data_dir(loaded, environment_data_dir)
    problems = _problems(recipe, base_dir, folder)
    benchmarks = build.benchmarks(recipe, base_dir, folder)
    asked = [(verifier, base_dir) for verifier in recipe.verifier]
    sandbox = build.sandbox(asked, recipe.sandbox, unsafe=unsafe, tell=tell)
    model, tokenizer = build.policy(loaded, None)
    renderer = build.renderer(tokenizer, model)
    engine = engine_of(recipe, model, tokenizer, base_dir, tell=tell, note=tell)
    stack.callback(engine.close)
    if engine.name != "hf":  # it has weights of its own: are they this model's?
        prove(engine, model, 0, context=renderer.context, temperature=recipe.sampling.temperature)
    workers = recipe.run.verify_workers or min(8, os.cpu_count() or 1)
    scorer = stack.enter_context(build.scorer(recipe.verifier, workers, base_dir, sandbox=sandbox))
    asking = _Asking(recipe, renderer, engine, scorer)
    looks: list[Look] = []
    groups: list[ScoredGroup] = []
    seconds = 0.0
    for prompt, chosen in problems.items():
        size = OTHER_COMPLETIONS if looks else recipe.sampling.group_size
        tell(f"probe: {len(chosen)} problems x {size} completions, prompt `{prompt}`")
        begun = perf_counter()
        scored = asking.ask(chosen, size)
        if not looks:
            groups, seconds = scored, perf_counter() - begun
        looks.append(_look(prompt, scored, size))
    engine.rest()
    start = looks[0].start
    sequences = float(recipe.run.steps * recipe.optim.problems_per_step * recipe.sampling.group_size)
    sequence_s = seconds / start.completions
    return Probe(
        own=looks[0],
        others=tuple(looks[1:]),
        hopeless=None if recipe.warm_start else hopeless(start, recipe.sampling.max_tokens),
        has_warm_start=recipe.warm_start is not None,
        tokens=sequences * start.tokens / start.completions,
        sample_s=sequences * sequence_s,
        update_s=sequences * _update_s(model, groups, recipe),
        eval_s=_evaluated(recipe, benchmarks) * sequence_s,
    )


@dataclass(frozen=True, slots=True)
class _Asking:
    """Who is asked, and how."""

    recipe: Recipe
    renderer: Renderer
    engine: Engine
    scorer: Scorer

    def ask(self, problems: Sequence[tuple[int, Problem]], size: int) -> list[ScoredGroup]:
        """`size` completions of each problem that fits the context, checked."""
        spec, seed = self.recipe.sampling, self.recipe.run.seed
        requests = []
        for serial, problem in problems:
            ids = self.renderer.render(problem)
            if self.renderer.fits(ids, spec.max_tokens):
                seeds = tuple(completion_seed(seed, 0, serial, i) for i in range(size))
                requests.append(Request(problem=problem, prompt_ids=ids, seeds=seeds))
        if not requests:
            raise ProblemsError(
                f"none of the first {len(problems)} prompts leaves room for sampling.max_tokens = "
                f"{spec.max_tokens} in the model's context of {self.renderer.context}; lower it"
            )
        sampling = Sampling(
            max_tokens=spec.max_tokens, temperature=spec.temperature, stop_ids=self.renderer.stop_ids
        )
        pending = {
            index: self.scorer.submit(group, requests[index].seeds[0] % 2**32)
            for index, group in self.engine.generate(requests, sampling)
        }
        return [pending[index].result() for index in range(len(requests))]


def _problems(recipe: Recipe, base_dir: Path, folder: Path | None) -> dict[str, list[tuple[int, Problem]]]:
    """The run's first problems with its own prompt, and with each other that changes what is asked."""
    own = recipe.problems.prompt
    count = max(WRONG_PROBLEMS, ceil(WRONG_COMPLETIONS / recipe.sampling.group_size))
    found: dict[str, list[tuple[int, Problem]]] = {}
    for prompt in (own, *(name for name in PROMPTS if name != own)):
        spec = recipe.problems.model_copy(update={"prompt": prompt})
        source: Source = build.source(spec, base_dir, folder)
        fewer = count if source.size is None else min(count, source.size)
        problems = Sampler(source, recipe.run.seed).take(fewer)
        seen = [[problem.messages for _, problem in others] for others in found.values()]
        if [problem.messages for _, problem in problems] not in seen:
            found[prompt] = problems
    return found


def _look(prompt: str, groups: Sequence[ScoredGroup], size: int) -> Look:
    rights = [sum(v.status == "right" for v in group.verdicts) / size for group in groups]
    return Look(prompt=prompt, start=Start.of([tally(groups)], size), pass_rate=interval(rights))


def _evaluated(recipe: Recipe, benchmarks: Sequence[build.HeldOut]) -> float:
    """Completions of all evaluations of the run."""
    times = 2 if not recipe.eval.every else 1 + ceil(recipe.run.steps / recipe.eval.every)
    return float(times * recipe.eval.samples * sum(held.source.size or 0 for held in benchmarks))


def _update_s(model: Any, groups: Sequence[ScoredGroup], recipe: Recipe) -> float:
    """Seconds of one sequence's share in an update: as many as a micro-batch holds, forward and backward.

    What needs a second forward pass (old or reference log-probabilities) counts a third on top.  Raises
    TrainingError where the micro-batch does not fit the GPU.
    """
    pairs = [(g.group.prompt_ids, c.token_ids) for g in groups for c in g.group.completions]
    packed = recipe.optim.packing == "auto" and misfit(model) is None
    longest = max(len(prompt) + len(completion) for prompt, completion in pairs)
    chosen = pairs[: max(1, recipe.optim.micro_batch_tokens // longest)]
    device = next(model.parameters()).device
    ids_BT = pad_sequence([torch.tensor(p + c) for p, c in chosen], batch_first=True).to(device)
    prompts_B = torch.tensor([len(p) for p, _ in chosen], device=device)
    completions_B = torch.tensor([len(c) for _, c in chosen], device=device)
    group_B = torch.tensor([g for g, one in enumerate(groups) for _ in one.group.completions])
    seconds = []
    model.train(model.is_gradient_checkpointing)
    for _ in range(2):  # the first is slower: memory is asked for, kernels are chosen
        begun = perf_counter()
        try:
            said = completion_logprobs(
                model,
                ids_BT,
                prompts_B,
                prompts_B + completions_B,
                temperature=recipe.sampling.temperature,
                columns=int(completions_B.max()),
                prompt_B=group_B[: len(chosen)] if packed else None,
            )
            with packed_attention(model) if packed else nullcontext():
                said.logprobs.sum().backward()  # type: ignore[no-untyped-call]
        except torch.OutOfMemoryError as error:
            raise TrainingError(
                f"a micro-batch of optim.micro_batch_tokens = {recipe.optim.micro_batch_tokens} does not fit "
                "the GPU: lower it, or set model.gradient_checkpointing: true."
            ) from error
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        model.zero_grad(set_to_none=True)
        seconds.append(perf_counter() - begun)
    model.eval()
    again = int(recipe.optim.minibatches > 1) + int(recipe.algorithm.kl != "off")
    return min(seconds) / len(chosen) * (1 + again / 3)
