"""Sections of a recipe that say which problems come back, and which completions."""

from __future__ import annotations

from pydantic import BaseModel, Field, model_validator

from rlvr.recipe.units import FROZEN, Fraction


class Curriculum(BaseModel):
    """Ask what is sometimes solved; what is solved, or out of the band, waits (docs/data.md)."""

    model_config = FROZEN
    band: tuple[Fraction, Fraction] = (0.0, 1.0)
    """Success rates that are asked, ends included; problems below and above wait."""
    retire_at: float | None = Field(default=0.9, gt=0, le=1)
    """Problems of this success rate or more are retired (no positive resampling); null retires none."""
    revisit: float = Field(default=0.05, ge=0, lt=1)
    """Share of the problems asked, in expectation and at most, that come from those that wait."""
    visits: int = Field(default=2, ge=1)
    """Groups of a problem before it is judged; each new one halves the weight of those before."""

    @model_validator(mode="after")
    def _leaves_something(self) -> Curriculum:
        low, high = self.band
        if low > high:
            raise ValueError(f"band = [{low:g}, {high:g}] is empty; write [low, high], such as [0.1, 0.9]")
        if self.retire_at is not None and self.retire_at <= low:
            raise ValueError(
                f"retire_at = {self.retire_at:g} retires all of band = [{low:g}, {high:g}]; "
                f"set it above {low:g}"
            )
        return self


class Replay(BaseModel):
    """Keep rare right completions, add one to a later group of that problem with none (docs/data.md)."""

    model_config = FROZEN
    share: float = Field(default=0.125, gt=0, le=1)
    """Groups of a step, at most, that get one: a share of `optim.problems_per_step`."""
    max_age: int = Field(default=50, ge=1)
    """Steps after which a stored completion is forgotten."""
