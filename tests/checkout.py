"""The checkout as text and syntax: its modules, what they import, the files in it."""

import ast
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
TINY = ["run.steps=2", "warm_start.steps=20", "optim.problems_per_step=4", "eval.limit=8"]
"""Settings of a run of two small steps."""


@dataclass(frozen=True)
class Import:
    """One import statement of a module of ours, wherever it stands in the file."""

    module: str
    """Who imports: `rlvr.train.loop`."""
    target: str
    """What: a module of ours as far as one exists, else the whole dotted name."""
    place: str
    """FILE:LINE."""

    @property
    def room(self) -> str:
        return room(self.module)


def room(module: str) -> str:
    """`rlvr.train.loop` is in the room `train`; the package itself is `rlvr`."""
    parts = module.split(".")
    return parts[1] if parts[0] == "rlvr" and len(parts) > 1 else parts[0]


def is_ours(module: str) -> bool:
    return module.split(".")[0] in ("rlvr", "rlvr_verifiers")


@cache
def sources() -> dict[str, Path]:
    """Every module of the two packages by its dotted name."""
    found = {}
    for top in (ROOT, ROOT / "verifiers"):
        package = "rlvr" if top == ROOT else "rlvr_verifiers"
        for path in sorted((top / package).rglob("*.py")):
            parts = path.relative_to(top).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def place(path: Path, node: ast.AST) -> str:
    return f"{path.relative_to(ROOT)}:{node.lineno}"


@cache
def imports() -> tuple[Import, ...]:
    """All of them: at the top, inside functions, under TYPE_CHECKING."""
    return tuple(
        Import(module, target, place(path, node))
        for module, path in sources().items()
        for node in ast.walk(tree(path))
        for target in targets(node, module, path)
    )


def targets(node: ast.AST, module: str, path: Path) -> Iterator[str]:
    """What a statement imports; `from rlvr import build` is rlvr.build, as there is such a module."""
    if isinstance(node, ast.Import):
        yield from (known(alias.name) for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        origin = node.module or ""
        if node.level:
            package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
            up = package[: len(package) - node.level + 1]
            origin = ".".join([*up, *origin.split(".")] if origin else up)
        yield from (known(f"{origin}.{alias.name}") for alias in node.names)


def known(name: str) -> str:
    """The longest beginning of a name that is a module of ours; other names as they are."""
    parts = name.split(".")
    if not is_ours(name):
        return name
    return next((m for n in range(len(parts), 0, -1) if (m := ".".join(parts[:n])) in sources()), name)


def outside() -> Iterator[tuple[Import, str]]:
    """Imports of neither ours nor the standard library, with the name of the top package."""
    for one in imports():
        top = one.target.split(".")[0]
        if not is_ours(one.target) and top not in sys.stdlib_module_names:
            yield one, top


def a_circle(graph: dict[str, set[str]]) -> list[str]:
    """The names along one circle of the graph; empty where there is none."""
    done: set[str] = set()

    def walk(node: str, path: list[str]) -> list[str]:
        if node in path:
            return [*path[path.index(node) :], node]
        if node in done:
            return []
        found = next((c for after in sorted(graph.get(node, ())) if (c := walk(after, [*path, node]))), [])
        done.add(node)
        return found

    return next((circle for node in sorted(graph) if (circle := walk(node, []))), [])


def written(suffix: str) -> list[Path]:
    """Every file that we write, with that ending: what a checkout holds and a tool does not make."""
    rooms = ("rlvr", "verifiers", "recipes", "tests", "scripts", "docs", ".ci", ".github")
    files = [path for path in ROOT.iterdir() if path.name != ".git"]
    files += [path for name in rooms for path in (ROOT / name).rglob("*") if "__pycache__" not in path.parts]
    return sorted(path for path in files if path.is_file() and path.name.endswith(suffix))


def matches(pattern: str) -> list[str]:
    """FILE:LINE of every line of ours that has the pattern in it; pictures have no lines."""
    return [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:80]}"
        for path in written("")
        if path.suffix != ".png"
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="ignore").splitlines(), 1)
        if re.search(pattern, line)
    ]


def copy_to(folder: Path) -> None:
    """A clean checkout in `folder`, with the files as they are now."""
    for path in written(""):
        target = folder / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)


def script(name: str | Path, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a script from another folder, without a person."""
    outside = {k: v for k, v in os.environ.items() if k not in ("RLVR_VENV", "PYTHON")}
    return subprocess.run(
        [str(name), *map(str, arguments)],
        cwd="/",
        env=outside | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=600,
    )
