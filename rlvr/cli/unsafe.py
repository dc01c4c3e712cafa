"""`--unsafe-no-isolation`: the option of every command whose verifiers may run programs."""

from __future__ import annotations

from typing import Annotated

import typer

Unsafe = Annotated[
    bool,
    typer.Option(
        "--unsafe-no-isolation",
        help="Let verifiers run programs without a sandbox: they can do what you can.",
    ),
]
