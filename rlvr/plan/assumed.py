"""What no formula here knows and a plan therefore guesses.  All of it is printed with every plan."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel, Field, ValidationError

from rlvr.errors import RecipeError, near_miss
from rlvr.recipe.units import FROZEN


class Assumed(BaseModel):
    """Guesses, each set by `rlvr plan --assume NAME=VALUE`; `--like RUN` measures the factors."""

    model_config = FROZEN
    mfu: float = Field(default=0.35, gt=0, le=1)
    """share of the peak FLOP/s, in passes over many tokens"""
    bandwidth: float = Field(default=0.6, gt=0, le=1)
    """share of the memory's bandwidth, in decoding and in the optimizer's step"""
    link: float = Field(default=0.7, gt=0, le=1)
    """share of the link's rate, between ranks and to servers"""
    host_gb_s: float = Field(default=10.0, gt=0)
    """GB/s to, from and within the host's memory, where `optim.offload` steps there"""
    layer_ms: float = Field(default=0.25, ge=0)
    """ms of a layer and pass in transformers' models beside the arithmetic: Python, launches"""
    vllm_ms: float = Field(default=4.0, ge=0)
    """ms of a decoding step in vLLM likewise"""
    cuda_gib: float = Field(default=1.0, ge=0)
    """GiB of CUDA's context and workspaces, a GPU"""
    python_gib: float = Field(default=0.5, ge=0)
    """GiB of a process with torch and transformers, where it shares the memory of a CPU"""
    vllm_gib: float = Field(default=0.5, ge=0)
    """GiB that vLLM keeps asleep, and outside of its budget awake: CUDA graphs"""
    sample: float = Field(default=1.0, gt=0)
    """factor on the seconds of sampling"""
    logprobs: float = Field(default=1.0, gt=0)
    """factor on the seconds of log-probabilities before the update"""
    update: float = Field(default=1.0, gt=0)
    """factor on the seconds of the update"""
    sync: float = Field(default=1.0, gt=0)
    """factor on the seconds of handing weights to the engine"""


def assumed(settings: Sequence[str]) -> Assumed:
    """The guesses with the `NAME=VALUE` of `settings`; RecipeError where one is none, or out of range."""
    given = Assumed().model_dump()
    for text in settings:
        name, _, value = (part.strip() for part in text.partition("="))
        if name not in given:
            raise RecipeError(f"--assume {text}: `{name}` is no assumption{near_miss(name, given)}")
        try:
            given[name] = float(value)
        except ValueError:
            raise RecipeError(f"--assume {text}: write {name}=NUMBER, as in {name}={given[name]:g}") from None
    try:
        return Assumed(**given)
    except ValidationError as error:
        fault = error.errors()[0]
        raise RecipeError(f"--assume {fault['loc'][0]}={fault['input']:g}: {fault['msg']}") from None


def words(found: Assumed) -> list[str]:
    """A line for each assumption, those that are not the default with a star."""
    fields = Assumed.model_fields
    values = found.model_dump()
    return [
        f"{name} = {values[name]:.3g}{'*' if values[name] != field.default else ''}  {field.description}"
        for name, field in fields.items()
    ]
