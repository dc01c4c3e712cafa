"""TRL's side of scripts/bench_vs_trl: one GRPOTrainer run in TRL's own environment, as a task file says.

The reward is our verifier, imported from this checkout.
"""

import json
import sys
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path += [str(ROOT), str(ROOT / "verifiers")]

import torch  # noqa: E402
import torch.distributed as dist  # noqa: E402
from datasets import Dataset  # noqa: E402
from step_clock import StepClock  # noqa: E402
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback  # noqa: E402
from trl import GRPOConfig, GRPOTrainer  # noqa: E402

PHASES = {
    "_generate_single_turn": "sample",
    "_calculate_rewards": "verify",
    "_prepare_inputs": "rest",
    "training_step": "update",
}
"""The trainer's methods; clipping and the optimizer belong to the update as well."""


class Steps(TrainerCallback):
    """Ends the clock's steps where the trainer's end, and keeps weights while it is stopped."""

    def __init__(self, clock: StepClock, drawn: dict, keep) -> None:
        self.clock, self.drawn, self.keep = clock, drawn, keep

    def on_train_begin(self, args, state, control, optimizer=None, **_) -> None:
        self.clock.watch(optimizer, "step", "update")
        self.clock.begin()

    def on_step_end(self, args, state, control, **_) -> None:
        self.clock.step(**together(self.drawn))
        self.drawn.update(tokens=0, problems=[], reward=0.0)
        with self.clock.stopped():
            self.keep(state.global_step)
            together(self.drawn)


def together(drawn: dict) -> dict:
    """What all ranks drew; each waits for the others."""
    if not dist.is_initialized():
        return dict(drawn)
    found: list[dict] = [{}] * dist.get_world_size()
    dist.all_gather_object(found, drawn)
    return {
        "tokens": sum(one["tokens"] for one in found),
        "problems": [problem for one in found for problem in one["problems"]],
        "reward": sum(one["reward"] for one in found) / len(found),
    }


def main() -> None:
    task = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    torch.set_num_threads(task["threads"])
    rows = [json.loads(line) for line in Path(task["prompts"]).read_text(encoding="utf-8").splitlines()]
    tokenizer = AutoTokenizer.from_pretrained(task["model"])
    if [row["ids"] for row in rows] != tokenizer([row["prompt"] for row in rows])["input_ids"]:
        sys.exit("the prompts are other tokens here than at rlvr's side")
    clock, drawn = StepClock(), {"tokens": 0, "problems": [], "reward": 0.0}
    folder = Path(task["folder"])

    def keep(step: int) -> None:
        if step in task["keep"] and trainer.is_world_process_zero():
            trainer.accelerator.unwrap_model(trainer.model).save_pretrained(folder / f"step-{step}")
            tokenizer.save_pretrained(folder / f"step-{step}")

    model = AutoModelForCausalLM.from_pretrained(task["model"], dtype=getattr(torch, task["dtype"]))
    trainer = GRPOTrainer(
        model=model,
        processing_class=tokenizer,
        reward_funcs=reward(task, drawn),
        train_dataset=Dataset.from_list([{k: row[k] for k in ("id", "prompt", "answer")} for row in rows]),
        args=GRPOConfig(**arguments(task)),
        callbacks=[Steps(clock, drawn, keep)],
    )
    for method, phase in PHASES.items():
        clock.watch(trainer, method, phase)
    clock.watch(trainer.accelerator, "clip_grad_norm_", "update")
    trainer.train()
    if trainer.is_world_process_zero():
        clock.write(Path(task["result"]), threads=torch.get_num_threads())
    if dist.is_initialized():  # gloo's threads would end the process with an error
        dist.barrier()
        dist.destroy_process_group()


def reward(task: dict, drawn: dict):
    """Our verifier as a reward function; it counts what was drawn besides."""
    module, name = task["verifier"].split(":")
    check = getattr(import_module(module), name).function

    def score(prompts, completions, completion_ids, id, answer, **_) -> list[float]:
        options = {"answer": answer} if task["verifier_wants_answer"] else {}
        rewards = [
            float(getattr(verdict, "score", verdict))
            for n, text in enumerate(completions)
            for verdict in [check(text, **{k: v[n] for k, v in options.items()})]
        ]
        drawn["tokens"] += sum(map(len, completion_ids))
        drawn["problems"] += id[:: task["group_size"]]
        drawn["reward"] = sum(rewards) / len(rewards)
        return rewards

    return score


def arguments(task: dict) -> dict:
    """What GRPOConfig is given: the work, which is the same for all, and the variant's options."""
    options = dict(task["options"])
    rows = options.pop("micro_batch")
    sequences = task["problems"] * task["group_size"]
    return {
        "output_dir": str(Path(task["folder"]) / "trainer"),
        "max_steps": task["steps"],
        "per_device_train_batch_size": rows,
        "gradient_accumulation_steps": sequences // rows // task["ranks"],
        "num_generations": task["group_size"],
        "max_completion_length": task["max_tokens"],
        "temperature": task["temperature"],
        "top_k": 0,
        "loss_type": "dapo",
        "epsilon": task["clip_low"],
        "epsilon_high": task["clip_high"],
        "beta": 0.0,
        "scale_rewards": "group",
        "shuffle_dataset": False,
        "optim": "adamw_torch_fused",
        "learning_rate": task["learning_rate"],
        "lr_scheduler_type": "constant",
        "adam_beta1": task["betas"][0],
        "adam_beta2": task["betas"][1],
        "adam_epsilon": 1e-8,
        "weight_decay": 0.0,
        "max_grad_norm": 1.0,
        "gradient_checkpointing": False,
        "bf16": task["dtype"] == "bfloat16",
        "use_cpu": task["device"] == "cpu",
        "save_strategy": "no",
        "logging_steps": task["steps"],
        "disable_tqdm": True,
        "report_to": [],
        "dataloader_pin_memory": False,
        "seed": task["seed"],
        **options,
    }


if __name__ == "__main__":
    main()
