"""`rlvr recipe`: list, check, show, explain, schema.  None of them needs torch."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer(help="Look at recipes and check them, without starting anything.", no_args_is_help=True)

Name = Annotated[
    str, typer.Argument(metavar="RECIPE", help="A .yaml file, or the name of a packaged recipe.")
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Put a value into the recipe; repeatable."),
]


@app.command("list")
def list_recipes() -> None:
    """List the packaged recipes: name and first comment line."""
    from rlvr.recipe.find import named

    recipes = named()
    width = max(map(len, recipes), default=0)
    for name, path in recipes.items():
        lines = path.read_text(encoding="utf-8").splitlines()
        about = next((line.lstrip("# ") for line in lines if line.startswith("#")), "")
        typer.echo(f"{name:<{width}}  {about}".rstrip())


@app.command()
def check(recipe: Name, settings: Settings = None) -> None:
    """Check a recipe: its keys, how they fit together, verifiers, prompts, benchmarks, local files."""
    from rlvr.cli.examine import examine
    from rlvr.recipe.load import find, load

    loaded = load(find(recipe), settings or ())
    for warning in examine(loaded):
        typer.echo(f"{warning} (warning)")
    typer.echo(f"{loaded.path}: ok")


@app.command()
def show(recipe: Name, settings: Settings = None) -> None:
    """Show a recipe with every key written out, as YAML that can be run."""
    from rlvr.recipe.explain import expand
    from rlvr.recipe.load import find, load

    typer.echo(expand(load(find(recipe), settings or ()).recipe), nl=False)


@app.command()
def explain(
    key: Annotated[str, typer.Argument(metavar="[KEY]", help="Such as `sampling.group_size`.")] = "",
) -> None:
    """Explain a key, a section (lists its keys), or without KEY the whole recipe."""
    from rlvr.recipe.explain import explain

    typer.echo(explain(key))


@app.command()
def schema() -> None:
    """Print the JSON schema of recipes, for editors."""
    import json

    from rlvr.recipe.json_schema import json_schema

    typer.echo(json.dumps(json_schema(), indent=2, ensure_ascii=False))
