"""Reading a model's config.json: the shape that it says, or what is wrong with it.

Read as JSON: neither torch nor transformers is imported, and no weights are touched.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rlvr.errors import ModelError
from rlvr.plan.families import FAMILIES, Family
from rlvr.plan.shape import Shape
from rlvr.recipe.files import is_local
from rlvr.recipe.load import Loaded
from rlvr.recipe.schema import Make

NEEDED = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "vocab_size")
"""Sizes that every configuration says."""
SIZES = (
    "num_key_value_heads",
    "head_dim",
    "max_position_embeddings",
    "sliding_window",
    "decoder_sparse_step",
)
"""Sizes that it may say."""
FLAGS = ("tie_word_embeddings", "attention_bias", "mlp_bias", "use_sliding_window")
"""True or false, where it says them."""
MOST, MOST_LAYERS = 10**9, 10**4
"""Largest sizes that are believed."""
CONTEXT = 32_768
"""Longest sequence, where a configuration names none."""


def shape_of(loaded: Loaded) -> Shape:
    """The shape of a recipe's model; ModelError names what its configuration lacks or says wrong."""
    model = loaded.recipe.model
    if model.make is not None:
        return made(model.make)
    name = model.name or ""
    if is_local("model.name", name) or Path(name).is_dir():
        folder = loaded.resolve(name) if is_local("model.name", name) else Path(name)
        return read(folder / "config.json", name)
    return read(_fetched(name, model.revision), name)


def made(make: Make) -> Shape:
    """The shape of a model that the recipe makes on the spot (rlvr/policy/model.py)."""
    from rlvr.problems.vocabulary import vocabulary_size

    return Shape(
        name="made on the spot",
        kind="qwen3",
        family=FAMILIES["qwen3"],
        hidden=make.hidden_size,
        layers=make.layers,
        heads=make.heads,
        kv_heads=make.kv_heads,
        head_dim=make.head_dim,
        mlp=make.mlp_size,
        vocabulary=vocabulary_size(make.tokenizer),
        tied=True,
        attention_bias=False,
        mlp_bias=False,
        context=make.context,
    )


def read(path: Path, name: str) -> Shape:
    """The shape in a config.json, of the model called `name`."""
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(f"model `{name}`: {path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise ModelError(f"model `{name}`: {path} is not JSON ({error}); is the download complete?") from None
    if not isinstance(config, dict):
        raise ModelError(f"model `{name}`: {path} is no configuration of a model: it holds no mapping")
    return shape(config, name, str(path))


def shape(config: Mapping[str, Any], name: str, place: str) -> Shape:
    """The shape that a configuration says; `place` is what errors call it."""
    notes = []
    inner = config.get("text_config")
    if isinstance(inner, dict):
        config = inner
        notes.append("only its text model is counted")
    kind = str(config.get("model_type", ""))
    family = FAMILIES.get(kind)
    if family is None:
        family = FAMILIES["llama"]
        notes.append(f"model_type `{kind}` is none that is counted exactly: taken for a llama of its sizes")
    if family.expert_width and "num_local_experts" in config:
        config = {"num_experts": config["num_local_experts"], **config}
    faults = list(_faults(config, family)) or list(_misfits(config, family))
    if faults:
        raise ModelError(
            f"model `{name}`: {place}: {'; '.join(faults)}; "
            "save the model anew with save_pretrained, or mend the file"
        )
    heads, layers, width = config["num_attention_heads"], config["num_hidden_layers"], family.expert_width
    window_layers, window = _window(config, layers)
    return Shape(
        name=name,
        kind=kind,
        family=family,
        hidden=config["hidden_size"],
        layers=layers,
        heads=heads,
        kv_heads=config.get("num_key_value_heads") or heads,
        head_dim=config.get("head_dim") or family.head_dim or config["hidden_size"] // heads,
        mlp=config["intermediate_size"],
        vocabulary=config["vocab_size"],
        tied=config.get("tie_word_embeddings", family.tied),
        attention_bias=bool(config.get("attention_bias")),
        mlp_bias=bool(config.get("mlp_bias")),
        experts=config["num_experts"] if width else 0,
        chosen=config["num_experts_per_tok"] if width else 0,
        expert_mlp=config[width] if width else 0,
        dense_layers=_dense_layers(config, layers) if width else 0,
        window_layers=window_layers,
        window=window,
        context=config.get("max_position_embeddings") or CONTEXT,
        notes=tuple(notes),
    )


def _faults(config: Mapping[str, Any], family: Family) -> Iterator[str]:
    """What is missing, and values that are of no use by themselves."""
    width = family.expert_width
    needed = dict.fromkeys([*NEEDED, *(("num_experts", "num_experts_per_tok", width) if width else ())])
    missing = [key for key in needed if config.get(key) is None]
    if missing:
        yield f"it lacks {', '.join(missing)}"
    for key in [*needed, *SIZES]:
        value, most = config.get(key), MOST_LAYERS if key == "num_hidden_layers" else MOST
        if value is not None and not (_is_whole(value) and 1 <= value <= most):
            yield f"{key} = {value!r} is no whole number from 1 to {most:,}"
    for key in FLAGS:
        if not isinstance(config.get(key), bool | None):
            yield f"{key} = {config[key]!r} is neither true nor false"
    for key, kind in (("layer_types", str), ("mlp_only_layers", int)):
        value = config.get(key)
        if value is not None and not (isinstance(value, list) and all(isinstance(v, kind) for v in value)):
            yield f"{key} = {value!r} is no list of {'names' if kind is str else 'numbers'}"


def _misfits(config: Mapping[str, Any], family: Family) -> Iterator[str]:
    """Values that contradict each other."""
    heads, hidden = config["num_attention_heads"], config["hidden_size"]
    groups, kinds = config.get("num_key_value_heads") or heads, config.get("layer_types")
    if heads % groups:
        yield f"num_key_value_heads = {groups} does not divide num_attention_heads = {heads}"
    if not (config.get("head_dim") or family.head_dim) and hidden % heads:
        yield f"hidden_size = {hidden} is no multiple of num_attention_heads = {heads}"
    if kinds is not None and len(kinds) != config["num_hidden_layers"]:
        yield f"layer_types names {len(kinds)} layers of num_hidden_layers = {config['num_hidden_layers']}"
    if family.expert_width and config["num_experts_per_tok"] > config["num_experts"]:
        yield f"num_experts_per_tok = {config['num_experts_per_tok']} of {config['num_experts']} experts"


def _dense_layers(config: Mapping[str, Any], layers: int) -> int:
    """Layers without experts: those named, and all but every `decoder_sparse_step`-th."""
    named = set(config.get("mlp_only_layers") or ())
    step = config.get("decoder_sparse_step") or 1
    return sum(layer in named or (layer + 1) % step != 0 for layer in range(layers))


def _window(config: Mapping[str, Any], layers: int) -> tuple[int, int]:
    """Layers of sliding-window attention, and its tokens."""
    window, kinds = config.get("sliding_window"), config.get("layer_types")
    if window is None or config.get("use_sliding_window") is False:
        return 0, 0
    return (layers if kinds is None else kinds.count("sliding_attention")), window


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _fetched(name: str, revision: str | None) -> Path:
    """The config.json of a hub model, downloaded or from the cache."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    from rlvr.problems.hub import silence

    quiet = silence()
    try:
        return Path(hf_hub_download(name, "config.json", revision=revision, local_files_only=bool(quiet)))
    except (HfHubHTTPError, HFValidationError, OSError) as error:  # not in the cache: an OSError too
        line = quiet or (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelError(
            f"model `{name}` is no folder here, and its config.json cannot be fetched from the hub: {line}; "
            "give a local folder that holds one: --set model=FOLDER"
        ) from None
