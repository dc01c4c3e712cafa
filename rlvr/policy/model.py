"""Where the policy comes from: a folder or hub name, or a small Qwen3 model made on the spot."""

from __future__ import annotations

import logging
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Qwen3Config,
    Qwen3ForCausalLM,
)
from transformers.utils import logging as hf_logging

from rlvr.cpu import take_faster
from rlvr.errors import ModelError, near_miss

logger = logging.getLogger(__name__)

# Its progress bars would tear our lines apart.
hf_logging.disable_progress_bar()  # type: ignore[no-untyped-call]

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def make_model(
    tokenizer: PreTrainedTokenizerBase,
    *,
    hidden_size: int,
    layers: int,
    heads: int,
    kv_heads: int,
    head_dim: int,
    mlp_size: int,
    context: int,
    seed: int,
) -> PreTrainedModel:
    """A Qwen3 model with tied embeddings and random float32 weights that depend on `seed` alone."""
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=hidden_size,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        head_dim=head_dim,
        intermediate_size=mlp_size,
        max_position_embeddings=context,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        tie_word_embeddings=True,
        pad_token_id=cast(int, tokenizer.pad_token_id),
        bos_token_id=None,
        eos_token_id=cast(int, tokenizer.eos_token_id),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        qwen3: Any = Qwen3ForCausalLM
        model: PreTrainedModel = qwen3(config).to(torch.float32).eval()
        embeddings: Any = model.get_input_embeddings()
        # The default 0.02 is tiny beside Adam's first steps: rare tokens would all drift to one same vector.
        torch.nn.init.normal_(embeddings.weight, std=hidden_size**-0.5)
        take_faster(model)
        return model


def load_model(
    name: str, *, revision: str | None, dtype: str, device: str, quiet: str = ""
) -> PreTrainedModel:
    """The causal language model of a folder or hub name, in evaluation mode on `device`.

    `quiet`: why the hub is not to be asked, and only the cache of earlier downloads is.
    Raises ModelError with the cause and the mend when there is none.
    """
    _require_folder(name)
    try:
        found: Any = AutoModelForCausalLM.from_pretrained(
            name, revision=revision or "main", dtype=DTYPES[dtype], local_files_only=bool(quiet)
        )
    except Exception as error:  # a damaged folder makes transformers raise nearly anything
        raise ModelError(f"model `{name}` cannot be loaded: {quiet or _first_line(error)}") from error
    # Weights mapped from a file lie unaligned in memory, where kernels round differently than on our own.
    for parameter in found.parameters():
        parameter.data = parameter.data.clone()
    model: PreTrainedModel = found.to(resolve_device(device)).eval()
    take_faster(model)
    return model


def load_tokenizer(name: str, *, revision: str | None = None, quiet: str = "") -> PreTrainedTokenizerBase:
    """The tokenizer saved beside the model; one without an end-of-sequence token is refused."""
    _require_folder(name)
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            name, revision=revision or "main", local_files_only=bool(quiet)
        )
    except Exception as error:  # likewise
        if not Path(name).is_dir():
            raise ModelError(
                f"model `{name}` is no folder here, and cannot be fetched from the hub: "
                f"{quiet or _first_line(error)}"
            ) from error
        raise ModelError(
            f"model `{name}` has no tokenizer that loads: {_first_line(error)}\n"
            "save one beside the weights with `tokenizer.save_pretrained(FOLDER)`."
        ) from error
    # Without its files, transformers makes up an empty tokenizer of the model's kind.
    if not tokenizer.encode("0", add_special_tokens=False):
        raise ModelError(
            f"model `{name}` has no tokenizer: save one beside the weights with "
            "`tokenizer.save_pretrained(FOLDER)`."
        )
    if tokenizer.eos_token_id is None:
        raise ModelError(
            f"the tokenizer of `{name}` has no eos_token: completions could not end; set one and save it."
        )
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def add_lora(model: PreTrainedModel, *, rank: int, alpha: float, targets: str | list[str], seed: int) -> Any:
    """Wrap `model` so that only a low-rank adapter trains (arXiv:2106.09685).

    Raises ModelError when peft is not installed or no module matches.
    """
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError as error:
        raise ModelError(
            "model.lora needs peft: install the extra with `pip install 'rlvr[lora]'`."
        ) from error
    config = LoraConfig(
        r=rank, lora_alpha=cast(int, alpha), target_modules=targets, task_type="CAUSAL_LM", lora_dropout=0.0
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            return get_peft_model(model, config).eval()
        except ValueError as error:
            raise ModelError(f"model.lora.targets = {targets}: {_first_line(error)}") from error


def load_lora(model: PreTrainedModel, folder: Path) -> Any:
    """Wrap `model` with the adapter saved in `folder`, to go on training it."""
    from peft import PeftModel

    return PeftModel.from_pretrained(model, str(folder), is_trainable=True).eval()


def resolve_device(device: str, *, key: str = "model.device") -> torch.device:
    """`auto` is the first GPU where there is one; `key` is what a message calls it."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
    except RuntimeError as error:
        raise ModelError(f"{key} = {device}: no such device; use auto, cpu, cuda or cuda:N.") from error
    if resolved.type == "cuda" and not torch.cuda.is_available():
        raise ModelError(f"{key} = {device}: torch sees no GPU here; use auto or cpu.")
    return resolved


def load_config(name: str, *, quiet: str = "") -> PretrainedConfig:
    """The configuration of a model folder or hub name, which names its architecture."""
    _require_folder(name)
    try:
        config: PretrainedConfig = AutoConfig.from_pretrained(name, local_files_only=bool(quiet))
    except Exception as error:  # as in load_model
        why = quiet or _first_line(error)
        raise ModelError(f"model `{name}` has no configuration that loads: {why}") from error
    if not config.architectures:
        raise ModelError(
            f"model `{name}`: its config.json names no architecture; save it with save_pretrained"
        )
    return config


def context_length(model: PreTrainedModel) -> int:
    """Longest sequence the model was made for, in tokens."""
    return longest(model.config)


def longest(config: PretrainedConfig) -> int:
    """The same, of a configuration."""
    config = config.get_text_config()
    return int(getattr(config, "max_position_embeddings", None) or 1_000_000)


def fingerprint(model: PreTrainedModel) -> str:
    """sha256 of a model's configuration and weights as loaded, whatever files they came from."""
    digest = sha256(model.config.to_json_string().encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _require_folder(name: str) -> None:
    path = Path(name)
    if not name.startswith((".", "/", "~")):
        return
    if not path.is_dir():
        siblings = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        raise ModelError(
            f"model folder {name} does not exist{near_miss(path.name, siblings) if siblings else ''}"
        )
    if not (path / "config.json").exists() and not (path / "adapter_config.json").exists():
        raise ModelError(f"model folder {name} has no config.json: it is no saved transformers model.")


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
