"""Finds verifiers by name, through three doors and no other, in this order:

entry point of group `rlvr.verifiers`; `package.module:function`; `./path/file.py:function` beside the recipe.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, TypeAlias

from rlvr.errors import RlvrError, VerifierError, near_miss
from rlvr.verify.api import Verifier
from rlvr.verify.options import Option

GROUP = "rlvr.verifiers"
AnyVerifier: TypeAlias = Verifier[..., Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """A registered verifier as it is shown to people."""

    name: str
    """What a recipe calls it."""
    doc: str = ""
    """What it promises, in one line."""
    options: Mapping[str, Option] = field(default_factory=dict)
    """What a recipe may set."""
    fault: str = ""
    """Why it cannot be loaded; empty if it can."""


def resolve(name: str, base_dir: Path | str | None = None) -> AnyVerifier:
    """The verifier called `name`; files are looked for relative to `base_dir` (the recipe's folder)."""
    registered = _registered()
    if name in registered:
        return _from_entry_point(registered[name])
    target, _, attribute = name.partition(":")
    if target.endswith(".py") or target.startswith((".", "/")):
        return _from_file(Path(base_dir or ".") / target, attribute, name)
    if attribute:
        return _pick(_import(target, name), attribute, name)
    raise VerifierError(
        f"there is no verifier `{name}`{near_miss(name, registered)}"
        " (one of your own is `./file.py:function` or `package.module:function`)"
    )


def available() -> list[Listing]:
    """Every registered verifier by name; one that cannot be loaded is listed with its fault."""
    return [_listing(name, point) for name, point in sorted(_registered().items())]


def _listing(name: str, point: EntryPoint) -> Listing:
    try:
        found = _from_entry_point(point)
    except VerifierError as error:
        return Listing(name=name, fault=str(error))
    return Listing(name=name, doc=found.doc, options=found.options)


def _registered() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP)}


def _from_entry_point(point: EntryPoint) -> AnyVerifier:
    named = f"{point.name} (entry point {point.value})"
    return _pick(_import(point.module, named), point.attr, named)


def _import(module: str, name: str) -> ModuleType:
    if not all(part.isidentifier() for part in module.split(".")):
        raise VerifierError(
            f"verifier `{name}`: `{module}` is no module name; a file is written `./file.py:function`."
        )
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name and (module == error.name or module.startswith(error.name + ".")):
            raise VerifierError(
                f"verifier `{name}`: there is no module `{error.name}`; install it, or check the spelling."
            ) from error
        raise _load_error(name, error) from error
    except RlvrError:
        raise
    except (Exception, SystemExit) as error:
        raise _load_error(name, error) from error


def _from_file(path: Path, attribute: str, name: str) -> AnyVerifier:
    if not path.is_file():
        beside = [other.name for other in path.parent.glob("*.py")] if path.parent.is_dir() else []
        raise VerifierError(f"verifier `{name}`: there is no file {path}{near_miss(path.name, beside)}")
    module_name = "rlvr_plugin_" + hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:16]
    spec = importlib.util.spec_from_file_location(module_name, path)
    if spec is None or spec.loader is None:
        raise VerifierError(f"verifier `{name}`: {path} is no Python file; its name must end in .py.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # dataclasses and pickling look their module up by name
    try:
        spec.loader.exec_module(module)
    except RlvrError:
        raise
    except (Exception, SystemExit) as error:
        raise _load_error(name, error) from error
    return _pick(module, attribute, name)


def _pick(module: ModuleType, attribute: str, name: str) -> AnyVerifier:
    found = getattr(module, attribute, None) if attribute else None
    if isinstance(found, Verifier):
        return found
    where = getattr(module, "__file__", None) or module.__name__
    own = sorted(key for key, value in vars(module).items() if isinstance(value, Verifier))
    holds = f"it holds {', '.join(own)}" if own else "it holds none: put `@verifier` above a function"
    if not attribute:
        raise VerifierError(
            f"verifier `{name}`: say which function of {where}, as `{name}:function`; {holds}"
        )
    if found is not None:
        raise VerifierError(
            f"verifier `{name}`: `{attribute}` in {where} is no verifier; put `@verifier` above it"
        )
    raise VerifierError(
        f"verifier `{name}`: {where} has no verifier `{attribute}`{near_miss(attribute, own)} ({holds})"
    )


def _load_error(name: str, error: BaseException) -> VerifierError:
    if isinstance(error, SyntaxError):
        return VerifierError(f"verifier `{name}`: {error.filename}:{error.lineno}: {error.msg}")
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith("<frozen")]
    place = f"{frames[-1].filename}:{frames[-1].lineno}: " if len(frames) > 1 else ""
    return VerifierError(f"verifier `{name}` cannot be loaded: {place}{type(error).__name__}: {error}")
