"""The sections of a recipe that say who checks: `verifier`, `audit`, `sandbox`."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from rlvr.recipe.units import FROZEN, Bytes, Seconds
from rlvr.types import Role


class Verifier(BaseModel):
    """Who checks.  Other keys are the verifier's own options.  `verifier: NAME` is `{name: NAME}`."""

    model_config = ConfigDict(frozen=True, extra="allow", use_attribute_docstrings=True, allow_inf_nan=False)
    name: str
    """A registered name, `package.module:function`, or `./file.py:function` relative to the recipe."""
    timeout: Seconds | None = None
    """Wall time a check may take before its worker is killed; null: the verifier's own (5 s; `code` 60 s)."""
    memory: Bytes = 2 * 2**30
    """Address space a worker may use."""
    weight: float = Field(default=1.0, gt=0)
    """Share in the reward where several verifiers are listed."""
    role: Role = "reward"
    """`gate`: pays nothing, and where it fails nothing is paid; `bonus`: pays where the first is right."""


class Audit(BaseModel):
    """A second verifier's opinion that trains nothing.  Other keys are its options.  Short: `audit: NAME`."""

    model_config = ConfigDict(frozen=True, extra="allow", use_attribute_docstrings=True, allow_inf_nan=False)
    name: str
    """Named as a verifier is; stricter than the one that trains, or of another kind."""
    share: float = Field(default=0.1, gt=0, le=1)
    """Share of a step's completions that it checks, drawn by the run's seed."""
    timeout: Seconds | None = None
    """Wall time a check may take before its worker is killed; null: the verifier's own (5 s; `code` 60 s)."""
    memory: Bytes = 2 * 2**30
    """Address space a worker may use."""

    @model_validator(mode="after")
    def _trains_nothing(self) -> Audit:
        for key in {"weight", "role"} & set(self.model_extra or {}):
            raise ValueError(f"an audit trains nothing, so it has no `{key}`; take the key out")
        return self

    @property
    def verifier(self) -> Verifier:
        """The verifier that it names, with its options."""
        return Verifier.model_validate(self.model_dump(exclude={"share"}))


class Sandbox(BaseModel):
    """Where verifiers run the programs that a model writes: by default here, behind this machine's walls."""

    model_config = FROZEN
    remote: str | None = None
    """Address of an executor on another machine that runs them instead (tier R): `http://10.0.0.5:8080`."""
    kind: Literal["sandboxfusion", "piston"] = "sandboxfusion"
    """The executor's interface."""

    @field_validator("remote")
    @classmethod
    def _is_address(cls, given: str | None) -> str | None:
        if given is not None and not re.fullmatch(r"https?://[^\s@/][^\s@]*", given):
            raise ValueError(f"`{given}` is no address; write http://HOST:PORT, and no user in it")
        return given
