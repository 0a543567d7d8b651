"""Calls in programs: their arguments, and paths as Python text."""

from __future__ import annotations

import os
from pathlib import Path

from attrs import frozen

from ..plan import Plan
from .literals import python_literal


@frozen
class Arg:
    """One keyword argument: its name, its Python text, and the arithmetic behind it."""

    name: str
    text: str
    reason: str = ""


@frozen
class Call:
    """One call with its arguments; a positional first argument has no name."""

    function: str
    args: tuple[Arg, ...]


def nested(call: Call, indent: int) -> str:
    """Return a call as Python text that stands in another, its arguments `indent` columns deep."""
    lines = []
    for arg in call.args:
        if arg.reason:
            lines.append(f"# {arg.reason}")
        lines.append(f"{arg.name}={arg.text}," if arg.name else f"{arg.text},")
    return "\n".join(
        [f"{call.function}(", *(" " * indent + line for line in lines), " " * (indent - 4) + ")"]
    )


def inline(call: Call, indent: int) -> str:
    """Return a call in one line where it is a short one, else as `nested` does."""
    args = (f"{arg.name}={arg.text}" if arg.name else arg.text for arg in call.args)
    text = f"{call.function}({', '.join(args)})"
    is_short = len(text) <= 60 and "\n" not in text and not any(arg.reason for arg in call.args)
    return text if is_short else nested(call, indent)


class Places:
    """Paths of the spec as Python text, relative to the run folder so that a checkout can move."""

    def __init__(self, plan: Plan) -> None:
        """Resolve both folders: `..` is followed by the file system, not by the text."""
        self.base = Path(os.path.realpath(plan.facts.base))
        self.run_dir = Path(os.path.realpath(plan.facts.output.path))

    def text(self, path: str) -> str:
        """Return the Python text of a path of the spec."""
        if os.path.isabs(path):
            return f"Path({python_literal(path)})"
        relative = os.path.relpath(self._followed(path), self.run_dir)
        return f"RUN_DIR / {python_literal(relative)}"

    def _followed(self, path: str) -> Path:
        parts = Path(path).parts
        end = len(parts) - parts[::-1].index("..") if ".." in parts else 0
        return Path(os.path.realpath(self.base.joinpath(*parts[:end])), *parts[end:])
