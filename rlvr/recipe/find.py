"""Where recipes lie: a path, or the name of one that comes with the package."""

from __future__ import annotations

from pathlib import Path

from rlvr.errors import RecipeError, near_miss

SUFFIXES = (".yaml", ".yml")


def find(name: str) -> Path:
    """The recipe at the path `name`, else the packaged recipe of that name (`quickstart`)."""
    given = Path(name).expanduser()
    if given.is_file():
        return given
    packaged = named().get(given.name.removesuffix(".yaml")) if given.name == name else None
    if packaged is not None:
        return packaged
    raise missing(given)


def named() -> dict[str, Path]:
    """The packaged recipes by name."""
    return {path.stem: path for path in sorted(folder().glob("*.yaml"))}


def folder() -> Path:
    """The folder of packaged recipes: inside the package once installed, beside it in a checkout."""
    package = Path(__file__).parents[1]
    installed = package / "_recipes"
    return installed if installed.is_dir() else package.parent / "recipes"


def missing(path: Path) -> RecipeError:
    """What to say of a recipe that is not there."""
    if path.is_dir():
        inside = [file.name for file in sorted(path.iterdir()) if file.suffix in SUFFIXES]
        return RecipeError(
            f"{path} is a folder; give a recipe in it: {', '.join(inside) or 'it holds no .yaml file'}"
        )
    beside = [file.name for file in path.parent.iterdir()] if path.parent.is_dir() else []
    near = near_miss(path.name, [name for name in beside if name.endswith(SUFFIXES)])
    if "did you mean" not in near:
        stem = path.name.removesuffix(".yaml")
        near = near_miss(stem, named())
        if stem in named():
            near = f"; the packaged recipe is called `{stem}`, without a folder"
        elif "did you mean" not in near:
            near = f"; give a path or a packaged recipe: {', '.join(named())}"
    return RecipeError(f"{path}: no such recipe{near}")
