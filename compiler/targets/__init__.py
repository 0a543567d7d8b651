"""Launch targets: one module each with the same functions, loaded when used."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, cast

from ..plan import Plan
from ..spec import Launch

TARGETS = {"local": "local"}
"""Kind of `[launch]` -> module in this folder."""


class Target(Protocol):
    """What a target module offers."""

    def render(self, plan: Plan) -> dict[str, str]:
        """Return the launch files: {path in the run folder: text}."""
        ...

    def command(self, run_dir: Path, arguments: Sequence[str]) -> list[str]:
        """Return the command that starts a compiled run."""
        ...


def target_of(launch: Launch) -> Target:
    """Return the module of a launch section."""
    return cast(Target, importlib.import_module(f".{TARGETS[launch.type]}", __package__))
