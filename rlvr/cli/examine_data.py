"""What a recipe says of its problems, tried on the rows that lie on this machine: see `examine.py`."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from rlvr.errors import ProblemsError, RecipeError
from rlvr.eval.benchmarks import find
from rlvr.problems.generators import GENERATORS
from rlvr.problems.hub import find_copy
from rlvr.problems.prompts import messages
from rlvr.problems.rows import READERS
from rlvr.problems.sources import open_source, refuse_templates, worked_source
from rlvr.problems.template import names
from rlvr.recipe.check_engine import Findings
from rlvr.recipe.files import is_local
from rlvr.recipe.load import Loaded
from rlvr.recipe.schema import Problems

FIRST_ROWS = 1000
"""Rows of a local file that are read here; the run reads all."""
ASKING = ("question", "answer", "answer_after", "prompt")
"""Keys of `problems` by which a benchmark's file is asked too."""


def data(loaded: Loaded) -> Findings:
    """Prompts, templates, benchmarks, settings of generators, and the first rows of local files."""
    recipe = loaded.recipe
    found = list(_problems(loaded, "problems", recipe.problems))
    if recipe.warm_start is not None and recipe.warm_start.problems is not None:
        found += _problems(loaded, "warm_start.problems", recipe.warm_start.problems)
    asked_well = not found
    for i, name in enumerate(recipe.eval.benchmarks):
        key = f"eval.benchmarks.{i}"
        if Path(name).suffix not in READERS:
            found += _unknown(key, name)
        elif asked_well:  # else it says the same once more
            asked = recipe.problems.model_dump(include=set(ASKING))
            file = Problems.model_validate({"source": name, **asked})
            for keys, text in _problems(loaded, "problems", file):
                yield (key, *keys), f"`eval.benchmarks` is asked as `problems` are: {text}"
    yield from found


def _unknown(key: str, name: str) -> Findings:
    try:
        find(name)
    except RecipeError as error:
        yield (key,), f"`eval.benchmarks`: {error}"


def _problems(loaded: Loaded, section: str, spec: Problems) -> Findings:
    """What is wrong with a section, with the keys that it is about: a template, the prompt, the source."""
    try:
        _read(loaded, section, spec)
    except ProblemsError as error:
        said, source = str(error), f"{section}.source"
        lacking = set(re.findall(r"no field `([^`]+)`", said))
        for key, template in _templates(loaded, section, spec).items():
            if lacking & set(names(template)):
                yield (key, source), f"`{key} = {template}`: {said}"
                return
        named = re.match(r"problems\.([\w.]+)|(prompt) `", said)
        key = f"{section}.{named[1] or named[2]}" if named else said.partition(" ")[0]
        yield (key, source), said


def _templates(loaded: Loaded, section: str, spec: Problems) -> dict[str, str]:
    """What reads the rows of a section, by key."""
    warm = loaded.recipe.warm_start
    read = {f"{section}.question": spec.question}
    if section == "problems":
        return read | ({"problems.answer": spec.answer} if spec.answer is not None else {})
    return read | ({"warm_start.solution": warm.solution} if warm else {})


def _read(loaded: Loaded, section: str, spec: Problems) -> None:
    """Open what is here, by its first rows; of the rest see what can be judged without them."""
    warm = loaded.recipe.warm_start
    keys: dict[str, Any] = spec.model_dump(exclude={"curriculum", "limit"})
    keys["limit"] = min(spec.limit or FIRST_ROWS, FIRST_ROWS)
    keys |= {"base_dir": loaded.path.parent.resolve(), "data_dir": _data_dir(loaded)}
    is_generated = spec.source in GENERATORS
    if not is_generated and not _is_here(loaded, spec):
        refuse_templates(question=spec.question, answer=spec.answer)
        messages("?", spec.prompt, spec.system)
    elif section == "problems":
        open_source(**keys)
    elif warm is not None and not is_generated:
        unread = ("answer", "answer_after", "options")
        worked_source(
            **{key: value for key, value in keys.items() if key not in unread}, solution=warm.solution
        )


def _is_here(loaded: Loaded, spec: Problems) -> bool:
    """Whether the rows are those of a local file, or of a local copy of hub data."""
    if is_local("problems.source", spec.source):
        return True
    data_dir = _data_dir(loaded)
    if data_dir is None or not data_dir.is_dir():
        return False
    return find_copy(data_dir, spec.source, spec.subset, spec.split, ()) is not None


def _data_dir(loaded: Loaded) -> Path | None:
    named = loaded.recipe.data_dir
    if named is not None:
        return loaded.resolve(named)
    environment = os.environ.get("RLVR_DATA_DIR")
    return Path(environment) if environment else None
