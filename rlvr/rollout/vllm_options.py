"""`vllm.options`: what of it vLLM does not know or cannot take, told before a model is loaded.

vLLM's EngineArgs are read as text: importing vLLM takes seconds and changes the process.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rlvr.errors import near_miss

SOURCE = Path("engine") / "arg_utils.py"
OWNED: dict[str, str] = {
    "model": "",
    "runner": "",
    "skip_tokenizer_init": "",
    "generation_config": "",
    "worker_extension_cls": "",
    "weight_transfer_config": "",
    "logprobs_mode": "",
    "load_format": "",
    "host": "",
    "port": "",
    "uds": "",
    "middleware": "",
    "api_key": "",
    "root_path": "",
    "config": "",
    "enable_scale_out": "",
    "disable_log_stats": "",
    "use_tqdm_on_load": "",
    "max_loras": "",
    "dtype": "`model.dtype` decides",
    "max_model_len": "it is the context in the model's config.json",
    "max_num_seqs": "`sampling.batch_size` decides",
    "tensor_parallel_size": "`vllm.tensor_parallel` decides",
    "gpu_memory_utilization": "`vllm.memory_share` decides",
    "kv_cache_memory_bytes": "`vllm.kv_cache` decides",
    "enforce_eager": "`vllm.eager` decides",
    "enable_sleep_mode": "`vllm.sleep` decides",
    "enable_lora": "`model.lora` decides",
    "max_lora_rank": "`model.lora.rank` decides",
}
"""Arguments that rlvr gives, or that decide who may reach the weights, and the key to set instead."""
PLAIN: dict[str, tuple[type, ...]] = {
    "bool": (bool,),
    "int": (int,),
    "float": (float, int),
    "str": (str,),
    "list": (list,),
    "dict": (dict,),
    "None": (type(None),),
}


def normal(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options by the names of EngineArgs: `max-model-len` is `max_model_len`."""
    return {name.replace("-", "_"): value for name, value in options.items()}


def faults(options: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(option, what is wrong with it) for each that is; an installation without vLLM knows no names."""
    known = _engine_arguments()
    seen: set[str] = set()
    for written, value in options.items():
        name = written.replace("-", "_")
        if name in OWNED:
            instead = f" ({OWNED[name]})" if OWNED[name] else ""
            yield written, f"vllm.options: `{written}` is set by rlvr; leave it out{instead}"
        elif name in seen:
            yield written, f"vllm.options: `{name}` is given twice"
        elif known and name not in known:
            near = near_miss(name, known.keys() - OWNED.keys())
            hint = near if "did you mean" in near else "; `vllm serve --help` lists them"
            yield written, f"vllm.options: `{written}` is no argument of vLLM's EngineArgs{hint}"
        elif known and known[name] and not _is_one_of(value, known[name]):
            takes = " or ".join("null" if kind == "None" else kind for kind in known[name])
            yield written, f"vllm.options: `{written} = {value}`: must be {takes}"
        seen.add(name)


def _is_one_of(value: Any, kinds: tuple[str, ...]) -> bool:
    types = {kind for name in kinds for kind in PLAIN[name]}
    return type(value) in types


@cache
def _engine_arguments() -> dict[str, tuple[str, ...]]:
    """The plain kinds that each of vLLM's EngineArgs takes; none where they are not plain."""
    spec = find_spec("vllm")
    if spec is None or spec.origin is None:
        return {}
    try:
        tree = ast.parse((Path(spec.origin).parent / SOURCE).read_text(encoding="utf-8"))
    except (OSError, SyntaxError):
        return {}
    fields = (
        node
        for one in tree.body
        if isinstance(one, ast.ClassDef) and one.name == "EngineArgs"
        for node in one.body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    )
    return {node.target.id: _kinds(node.annotation) for node in fields if isinstance(node.target, ast.Name)}


def _kinds(annotation: ast.expr) -> tuple[str, ...]:
    """`int | None` as its parts; nothing where one of them is no plain type."""
    if isinstance(annotation, ast.BinOp):
        left, right = _kinds(annotation.left), _kinds(annotation.right)
        return left + right if left and right else ()
    if isinstance(annotation, ast.Subscript):
        annotation = annotation.value
    name = ast.unparse(annotation)
    return (name,) if name in PLAIN else ()
