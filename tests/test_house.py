"""The laws of the house, each a test with the law in its name.  What is allowed stands here as data."""

import ast
import importlib.metadata
import json
import re
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pytest

from rlvr.recipe.check import check
from rlvr.recipe.load import load
from tests.checkout import (
    ROOT,
    a_circle,
    imports,
    is_ours,
    matches,
    outside,
    place,
    room,
    sources,
    targets,
    tree,
    written,
)

# From the bottom up: a module imports from its own room and from floors below.
FLOORS = [
    {"types", "errors", "keeper", "cpu"},
    {"algo", "recipe", "problems", "rollout", "verify", "sandbox", "policy", "runs"},
    {"build", "eval", "view", "launch", "serve", "doctor", "plan"},
    {"train"},
    {"cli"},
]
# Neighbours on one floor, where one may use the other.  The eight rooms have none, and shall have none.
NEIGHBOURS = {
    ("build", "eval"),  # it opens the benchmarks that a recipe names
}
# The package itself is a door: what a plugin's author imports from it, and no module of ours does.
DOOR = {"rlvr.types", "rlvr.verify.api"}
# Rooms that may use less than their floor: what they import of ours, and of other packages (None: any).
NARROW = {
    "algo": ({"rlvr.algo", "rlvr.types"}, {"torch"}),
    "view": ({"rlvr.view", "rlvr.runs", "rlvr.types", "rlvr.errors"}, {"rich", "matplotlib"}),
    "rlvr_verifiers": ({"rlvr_verifiers", "rlvr.verify.api", "rlvr.sandbox.api", "rlvr.types"}, None),
}
HEAVY = {"torch", "transformers", "vllm"}
LIGHT_COMMANDS = [
    "--help",
    "--version",
    "train --help",
    "eval --list",
    "recipe list",
    "recipe check recipes/quickstart.yaml",
    "recipe show recipes/quickstart.yaml",
    "recipe explain sampling",
    "recipe schema",
    "verifier list",
    "runs list",
    "runs explain rollout/truncated_share",
    "doctor --help",
    "plan recipes/quickstart.yaml",
]
HELP_S = 0.5
NO_NOUNS = {"utils", "util", "common", "helpers", "helper", "misc", "base", "core", "manager"}
READERS_OF_THE_ENVIRONMENT = (
    "rlvr/cli/",
    "rlvr/launch.py",
    "rlvr/policy/parallel.py",
    "rlvr/rollout/vllm_local.py",  # sets variables for vLLM, which knows no other way, and puts them back
)
# The longest there are, in lines: lowered when they shrink, and never above 400 and 80.
LONGEST_FILE, LONGEST_FUNCTION = 360, 80


def told(faults: list[str]) -> str:
    return "\n" + "\n".join(faults)


def test_the_walk_finds_imports_of_every_kind() -> None:
    """The other tests mean nothing if this one is blind."""
    assert len(sources()) > 60
    found = {(one.module, one.target) for one in imports()}
    assert ("rlvr.train.loop", "rlvr.build") in found, "from rlvr import build"
    assert ("rlvr.cli.recipe", "rlvr.recipe.load") in found, "inside a function"
    assert ("rlvr.cli.eval", "rlvr.eval.benchmarks") in found, "under TYPE_CHECKING"
    assert ("rlvr_verifiers.math", "rlvr.verify.api") in found, "across packages"
    relative = ast.parse("from . import lines\nfrom ..runs.reader import Row").body
    names = [t for node in relative for t in targets(node, "rlvr.view.panel", Path("panel.py"))]
    assert names == ["rlvr.view.lines", "rlvr.runs.reader"]


def test_law_1_no_import_runs_upward_and_rooms_do_not_import_each_other() -> None:
    floor = {name: number for number, names in enumerate(FLOORS) for name in names}
    faults = []
    for one in imports():
        if not is_ours(one.target) or room(one.module) == "rlvr_verifiers":
            continue
        here, there = room(one.module), room(one.target)
        if here == "rlvr":
            if one.target not in DOOR:
                faults.append(f"{one.place}: the package's door opens {one.target}")
        elif there == "rlvr":
            faults.append(f"{one.place}: imports the package's door; name the module")
        elif here not in floor or there not in floor:
            faults.append(f"{one.place}: {here} imports {there}, and one of them has no floor")
        elif here != there and floor[there] >= floor[here] and (here, there) not in NEIGHBOURS:
            faults.append(f"{one.place}: {here} (floor {floor[here]}) imports {there} (floor {floor[there]})")
    assert not faults, told(faults)


def test_law_1_no_circles() -> None:
    for graph in (edges(lambda name: name), edges(room)):
        circle = a_circle(graph)
        assert not circle, " -> ".join(circle)


def edges(named) -> dict[str, set[str]]:
    graph: dict[str, set[str]] = {}
    for one in imports():
        here, there = named(one.module), named(one.target)
        if is_ours(one.target) and here != there:
            graph.setdefault(here, set()).add(there)
    return graph


def test_a_circle_is_seen() -> None:
    assert a_circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert a_circle({"a": {"b", "c"}, "b": {"c"}}) == []


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("rlvr_verifiers", id="law_2_verifiers_import_only_what_a_plugin_may"),
        pytest.param("algo", id="law_3_algo_imports_torch_and_types_alone"),
        pytest.param("view", id="law_7_view_reads_the_run_folder_only"),
    ],
)
def test_narrow_rooms(name: str) -> None:
    ours, others = NARROW[name]
    mine = [one for one in imports() if one.room == name]
    faults = [
        f"{one.place}: {one.target}"
        for one in mine
        if is_ours(one.target) and not any(one.target == m or one.target.startswith(f"{m}.") for m in ours)
    ]
    if others is not None:
        faults += [f"{one.place}: {top}" for one, top in outside() if one.room == name and top not in others]
    assert mine
    assert not faults, told(faults)


def test_law_2_no_module_imports_a_verifier_past_the_registry() -> None:
    inside = [
        one.place for one in imports() if one.room != "rlvr_verifiers" and "rlvr_verifiers" in one.target
    ]
    assert not inside, told(inside)


@pytest.mark.parametrize("command", LIGHT_COMMANDS)
def test_law_4_light_commands_import_nothing_heavy(command: str) -> None:
    program = (
        "import json, sys\n"
        "from rlvr.cli.app import answer, app\n"
        "code = answer(app, sys.argv[1:])\n"
        f"print(json.dumps([code, sorted({HEAVY!r} & set(sys.modules))]), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *command.split()],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert json.loads(done.stderr.splitlines()[-1]) == [0, []], done.stderr
    assert done.stdout


def test_law_4_help_answers_in_half_a_second() -> None:
    """Best of five, in turn with an interpreter that does nothing: where that one is slow, so may help be."""
    help_s, bare_s = [], []
    for _ in range(5):
        help_s.append(wall_s("-m", "rlvr.cli.app", "--help"))
        bare_s.append(wall_s("-c", "pass"))
    assert min(help_s) < max(HELP_S, 25 * min(bare_s)), f"help {help_s}, nothing {bare_s}"


def wall_s(*arguments: str) -> float:
    begun = time.perf_counter()
    subprocess.run([sys.executable, *arguments], cwd=ROOT, check=True, capture_output=True, timeout=60)
    return time.perf_counter() - begun


def test_law_5_no_module_is_named_for_nothing() -> None:
    parts = [(path, part) for path in written(".py") for part in path.relative_to(ROOT).with_suffix("").parts]
    faults = [str(path.relative_to(ROOT)) for path, part in parts if part.removeprefix("test_") in NO_NOUNS]
    assert not faults, told(faults)


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").glob("*.yaml")), ids=lambda path: path.stem)
def test_law_6_every_recipe_validates(path: Path) -> None:
    assert check(load(path)) == []


def test_the_environment_is_read_in_few_places() -> None:
    """Handing the whole of it to a child process, `dict(os.environ)`, reads no variable."""
    faults = []
    for path in sources().values():
        if str(path.relative_to(ROOT)).startswith(READERS_OF_THE_ENVIRONMENT):
            continue
        nodes = list(ast.walk(tree(path)))
        handed = {id(call.args[0]) for call in nodes if is_call_of(call, "dict") and call.args}
        faults += [place(path, n) for n in nodes if touches_environment(n) and id(n) not in handed]
    assert not faults, told(faults)


def touches_environment(node: ast.AST) -> bool:
    names = {"environ", "environb", "getenv"}
    if isinstance(node, ast.ImportFrom):
        return node.module == "os" and any(alias.name in names for alias in node.names)
    return isinstance(node, ast.Attribute) and node.attr in names


def is_call_of(node: ast.AST, name: str) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name


def test_everything_public_has_a_docstring() -> None:
    faults = []
    for path in sources().values():
        if tree(path).body and not ast.get_docstring(tree(path)):
            faults.append(f"{path.relative_to(ROOT)}:1: the module")
        bare = [node for node in public(tree(path)) if not ast.get_docstring(node)]
        faults += [f"{place(path, node)}: {node.name}" for node in bare]
    assert not faults, told(faults)


def public(
    scope: ast.Module | ast.ClassDef,
) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]:
    for node in scope.body:
        is_scope = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        if is_scope and not node.name.startswith("_"):
            yield node
            if isinstance(node, ast.ClassDef):
                yield from public(node)


def test_files_and_functions_stay_short() -> None:
    assert LONGEST_FILE <= 400
    assert LONGEST_FUNCTION <= 80
    faults = []
    for path in written(".py"):
        count = len(path.read_text(encoding="utf-8").splitlines())
        if count > LONGEST_FILE:
            faults.append(f"{path.relative_to(ROOT)}: {count} lines")
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                count = node.end_lineno - node.lineno + 1
                if count > LONGEST_FUNCTION:
                    faults.append(f"{place(path, node)}: {node.name} has {count} lines")
    assert not faults, told(faults)


def test_every_package_imported_is_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *chain(*project["optional-dependencies"].values())]
    declared = {plain(re.match(r"[\w.-]+", line).group()) for line in wanted}
    owners = importlib.metadata.packages_distributions()
    faults = {
        f"{one.place}: {top}"
        for one, top in outside()
        if not declared & {plain(name) for name in owners.get(top, [top])}
    }
    assert not faults, told(sorted(faults))


def plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_no_file_names_a_folder_of_somebodys_machine() -> None:
    lines = matches(r"(?<![\w.}-])/(?:work|tmp|root|home|Users)/")
    assert not lines, told(lines)


def test_nothing_is_left_to_do_later() -> None:
    lines = matches(r"\b(?:TO[D]O|FIX[M]E|XX[X])\b")
    assert not lines, told(lines)
