"""Our side of scripts/bench_vs_trl: `rlvr train` as a task file says, with a clock around its steps.

rlvr_side.py prompts TASK    write what the first steps will ask, for the other side
rlvr_side.py train TASK      one run
rlvr_side.py eval TASK       the accuracy of many models, by `rlvr eval`
"""

import json
import random
import shutil
import sys
from pathlib import Path

from step_clock import StepClock

from rlvr.cli.app import answer, app

ROOT = Path(__file__).resolve().parents[2]


def main() -> None:
    _, what, path = sys.argv
    errands = {"model": model, "prompts": prompts, "train": train, "eval": evaluate}
    errands[what](json.loads(Path(path).read_text(encoding="utf-8")))


def model(task: dict) -> None:
    """On a CPU the quickstart's after its warm start; on a GPU a random one, and problems of random words."""
    folder = Path(task["folder"])
    if task["device"] == "cuda":
        random_model(task)
        return
    shutil.rmtree(folder, ignore_errors=True)
    changes = {"run.dir": folder.parent, "run.name": folder.name, "run.steps": 0, "run.save_every": 0}
    changes |= {"warm_start.steps": task["warm_steps"], "warm_start.save_every": 0, "eval.benchmarks": "[]"}
    changes |= {"run.threads": task["threads"]}
    if "make" in task:
        changes |= {"model.make": task["make"]}
        changes |= {"warm_start.optimizer": "adamw", "warm_start.learning_rate": 1e-3}
    run_recipe([f"{key}={value}" for key, value in changes.items()])
    (folder / "checkpoints/step-000000/model").rename(task["model"])


def random_model(task: dict) -> None:
    """Qwen2.5's shape, all of its vocabulary: `12 345 ...`, a number a token."""
    import torch
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

    width, layers, heads, mlp = {"0.5B": (896, 24, 14, 4864), "1.5B": (1536, 28, 12, 8960)}[task["size"]]
    words = Tokenizer(models.WordLevel({f" {n}": n for n in range(151_936)}, unk_token=" 0"))
    words.pre_tokenizer = pre_tokenizers.Split(Regex(r" \d+"), behavior="isolated")
    words.decoder = decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, pad_token=" 0", eos_token=" 1")
    tokenizer.chat_template = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
    config = Qwen2Config(
        vocab_size=151_936,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=2,
        intermediate_size=mlp,
        max_position_embeddings=task["context"],
        tie_word_embeddings=True,
        pad_token_id=0,
        eos_token_id=1,
    )
    torch.manual_seed(0)
    Qwen2ForCausalLM(config).to(getattr(torch, task["dtype"])).save_pretrained(task["model"])
    tokenizer.save_pretrained(task["model"])
    draw = random.Random(0)
    with (Path(task["model"]).parent / "problems.jsonl").open("w", encoding="utf-8") as out:
        for _ in range(task["problems"] * task["steps"]):
            question = "".join(f" {draw.randrange(2, 151_936)}" for _ in range(256))
            out.write(json.dumps({"question": question, "answer": "-"}) + "\n")


def prompts(task: dict) -> None:
    """One JSON line a problem, in the order of the run."""
    from transformers import AutoTokenizer

    from rlvr import build
    from rlvr.problems.prompts import Renderer
    from rlvr.problems.sampler import Sampler
    from rlvr.recipe.load import load

    loaded = load(ROOT / "recipes/quickstart.yaml", settings(task))
    tokenizer = AutoTokenizer.from_pretrained(task["model"])
    renderer = Renderer(tokenizer, context=task["context"])
    source = build.source(loaded.recipe.problems, loaded.path.parent, None)
    with Path(task["prompts"]).open("w", encoding="utf-8") as out:
        for _, problem in Sampler(source, task["seed"]).take(task["problems"] * task["steps"]):
            ids = list(renderer.render(problem))
            row = {"id": problem.id, "prompt": tokenizer.decode(ids), "ids": ids, "answer": problem.answer}
            out.write(json.dumps(row) + "\n")


def train(task: dict) -> None:
    """`rlvr train`; the clock stops while weights are kept for the evaluation."""
    from rlvr.train import loop

    clock, inner = StepClock(), loop._step

    def step(run, state, feed, *rest) -> None:
        if not clock.steps:
            clock.begin()
        inner(run, state, feed, *rest)
        clock.step()
        with clock.stopped():
            model = run.gathered() if state.step in task["keep"] else None
            run.world.lead(lambda: keep(run, model, state.step))

    def keep(run, model, step: int) -> None:
        if model is not None:
            folder = Path(task["folder"]) / f"step-{step}"
            model.save_pretrained(folder)
            run.tokenizer.save_pretrained(folder)
        if step == task["steps"]:
            add_numbers(clock, run.folder.path)
            clock.write(Path(task["result"]), threads=torch.get_num_threads())

    import torch

    loop._step = step
    run_recipe(settings(task))


def run_recipe(changes: list[str]) -> None:
    """`rlvr train` of the quickstart with other keys."""
    words = [word for one in changes for word in ("--set", one)]
    if code := answer(app, ["train", str(ROOT / "recipes/quickstart.yaml"), *words]):
        sys.exit(code)


def add_numbers(clock: StepClock, run: Path) -> None:
    """From the run's own record: tokens, reward, problems, and where the time went."""
    from rlvr.runs.reader import read_metrics, read_rollouts

    rows = [row for row in read_metrics(run) if row.kind == "train"]
    for made, row in zip(clock.steps, rows, strict=True):
        m = row.metrics
        phases = {"sample": m["time/sample_s"], "verify": m["time/verify_s"]}
        phases["update"] = m["time/logprobs_s"] + m["time/update_s"]
        made["phases"] = phases | {"rest": made["wall_s"] - sum(phases.values())}
        made["tokens"], made["reward"] = m["rollout/tokens"], m["reward/mean"]
        made["problems"] = list(dict.fromkeys(r.problem_id for r in read_rollouts(run, row.step)))


def settings(task: dict) -> list[str]:
    """KEY=VALUE of the recipe: the work, which is the same for all, and the variant's own."""
    folder = Path(task["folder"])
    given = {
        "model": f"{{name: {task['model']}, dtype: {task['dtype']}, device: {task['device']}}}",
        "warm_start": "null",
        "sampling.engine": "hf",
        "sampling.group_size": task["group_size"],
        "sampling.max_tokens": task["max_tokens"],
        "sampling.temperature": task["temperature"],
        "algorithm.clip_low": task["clip_low"],
        "algorithm.clip_high": task["clip_high"],
        "algorithm.advantage_epsilon": 1e-4,
        "algorithm.correction": "none",
        "algorithm.zero_variance": "keep",
        "optim.problems_per_step": task["problems"],
        "optim.learning_rate": task["learning_rate"],
        "optim.betas": task["betas"],
        "optim.warmup_steps": 0,
        "eval.benchmarks": "[]",
        "run.dir": folder.parent,
        "run.name": folder.name,
        "run.steps": task["steps"],
        "run.save_every": 0,
        "run.seed": task["seed"],
        "run.threads": task["threads"],
        **task["recipe"],
        **task["options"],
    }
    return [f"{key}={value}" for key, value in given.items()]


def evaluate(task: dict) -> None:
    """`rlvr eval` of each model of the task, in one process."""
    for model, out in task["models"].items():
        words = ["eval", model, "-b", "story", "--samples", "4", "--out", out]
        code = answer(app, [*words, "--max-tokens", str(task["max_tokens"])])
        if code:
            sys.exit(code)


if __name__ == "__main__":
    main()
