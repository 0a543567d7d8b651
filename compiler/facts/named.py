"""Further files that a spec names: reward functions, host files, and whatever must or must not be there."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from attrs import frozen

from ..spec import FunctionReward, Grpo, HostFile, Ppo, Spec
from .files import read_text

PathState = Literal["file", "folder", "missing", "unreadable"]


@frozen
class FunctionFacts:
    """A Python file and the functions it defines at its top; the file is parsed and never run."""

    state: Literal["ok", "missing", "unreadable", "not-python"]
    names: tuple[str, ...] = ()
    problem: str = ""


@frozen
class HostFacts:
    """A host file: `name slots=N` a line."""

    state: Literal["ok", "missing", "unreadable"]
    slots: Mapping[str, int]
    bad_line: int = 0
    """The first line that cannot be used, or 0."""
    problem: str = ""


def function_rewards(spec: Spec) -> dict[tuple[str | int, ...], FunctionReward]:
    """Return the rewards that are functions, by their place in the spec."""
    objective = spec.objective
    if isinstance(objective, Ppo) and isinstance(objective.reward, FunctionReward):
        return {("objective", "reward"): objective.reward}
    if not isinstance(objective, Grpo):
        return {}
    listed = enumerate(objective.rewards)
    return {
        ("objective", "rewards", index): reward
        for index, reward in listed
        if isinstance(reward, FunctionReward)
    }


def read_function(path: Path) -> FunctionFacts:
    """Return what the file at `path` defines."""
    import ast  # few specs name functions

    try:
        tree = ast.parse(read_text(path))
    except FileNotFoundError:
        return FunctionFacts("missing")
    except OSError as fault:
        return FunctionFacts("unreadable", problem=fault.strerror or "")
    except SyntaxError as fault:
        return FunctionFacts("not-python", problem=f"line {fault.lineno}: {fault.msg}")
    except (ValueError, RecursionError, MemoryError):
        return FunctionFacts("not-python", problem="it cannot be parsed")
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return FunctionFacts("ok", tuple(node.name for node in tree.body if isinstance(node, kinds)))


def read_hosts(base: Path, launch: HostFile) -> HostFacts:
    """Return the machines of a host file and their slots."""
    try:
        text = read_text(base / launch.path)
    except FileNotFoundError:
        return HostFacts("missing", {})
    except (OSError, ValueError) as fault:
        return HostFacts("unreadable", {}, problem=getattr(fault, "strerror", "") or "no text")
    slots: dict[str, int] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        problem = _take_host(slots, line.partition("#")[0].split())
        if problem:
            return HostFacts("ok", slots, number, problem)
    return HostFacts("ok", slots)


def _take_host(slots: dict[str, int], words: list[str]) -> str:
    """Add the host of a line; return what is wrong with it."""
    if not words:
        return ""
    key, _, count = words[-1].partition("=")
    if len(words) != 2 or key != "slots" or not (count.isascii() and count.isdigit()):
        return "expected `name slots=N`"
    if words[0] in slots:
        return f"`{words[0]}` is listed twice"
    if not 0 < len(count) < 6 or int(count) == 0:
        return f"`{words[0]}` has {count[:6]} slots"
    slots[words[0]] = int(count)
    return ""


def read_states(base: Path, spec: Spec) -> dict[str, PathState]:
    """Return the state of every further path the spec names, by its text."""
    named = [spec.run.resume_from]
    if spec.benchmark is not None:
        named += [spec.benchmark.output_dir]
    if spec.export.quantization is not None:
        named += [spec.export.quantization.data]
    if spec.megatron is not None:
        named += [spec.megatron.checkpoint]
    if spec.hyper_parallel is not None:
        named += [spec.hyper_parallel.config]
    return {text: _state(base, text) for text in named if text is not None}


def _state(base: Path, text: str) -> PathState:
    path = base / text
    try:
        if path.is_dir():
            return "folder" if os.access(path, os.R_OK) else "unreadable"
        return "file" if path.is_file() else "unreadable" if path.exists() else "missing"
    except (OSError, ValueError):
        return "unreadable"
