"""Command lines of trainers, also inside shell scripts: split into words, never run."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Sequence
from typing import Any

from attrs import frozen

from .convert import clean, typed
from .reading import ImportFault

PROGRAMS = ("llamafactory-cli", "lmf", "axolotl", "trl", "torchrun", "deepspeed", "accelerate")
VERBS = (
    *("train", "chat", "api", "webchat", "export", "eval", "webui"),
    *("sft", "dpo", "kto", "reward", "grpo", "cpo", "orpo"),
)
ENDS = frozenset({";", "&&", "||", "|", "&", ">", ">>", "<", "2>", "&>", "(", ")"})
ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=.*", re.DOTALL)
LAUNCHER_NUMBERS = {
    "nproc_per_node": "processes",
    "nproc-per-node": "processes",
    "num_gpus": "processes",
    "num_processes": "processes",
    "nnodes": "nodes",
    "num_nodes": "nodes",
    "num_machines": "nodes",
}


@frozen
class Command:
    """One command of a trainer."""

    program: str
    verb: str
    files: tuple[str, ...]
    values: dict[str, Any]
    environment: dict[str, str]
    launcher: dict[str, int]
    launcher_file: str
    """Configuration of the launcher (`accelerate launch --config_file`)."""


def is_command(words: Sequence[str]) -> bool:
    """Return whether words are a command instead of file names."""
    first = next((word for word in words if not ASSIGNMENT.fullmatch(word)), "")
    return _base(first) in (*PROGRAMS, "python", "python3", "env") or first.startswith("--")


def from_script(text: str, name: str) -> Command:
    """Return the trainer's command in a script.

    Raises:
        ImportFault: where there is none, or several, or its quotes do not close.
    """
    environment: dict[str, str] = {}
    found: list[Command] = []
    for words in _lines(text, name):
        for part in _commands(words):
            if _is_trainer(part):
                found.append(from_words(part, environment))
            elif (part and part[0] in ("export", "env")) or all(map(ASSIGNMENT.fullmatch, part)):
                environment |= _assignments(part)
    if not found:
        raise ImportFault(f"{name}: no command of a trainer, such as `llamafactory-cli train`")
    if len(found) > 1:
        raise ImportFault(f"{name}: {len(found)} commands of a trainer; import them one by one")
    return found[0]


def from_words(words: Sequence[str], environment: dict[str, str] | None = None) -> Command:
    """Return the command that words make."""
    rest = list(words)
    set_here: dict[str, str] = {}
    while rest and (ASSIGNMENT.fullmatch(rest[0]) or rest[0] in ("env", "export", "exec", "nohup")):
        set_here |= _assignments([rest.pop(0)])
    launcher, launcher_file, rest = _launcher(rest)
    program = _base(rest.pop(0)) if rest and not rest[0].startswith("--") else ""
    verb = rest.pop(0) if rest and rest[0] in VERBS else program.removesuffix(".py")
    verb = verb if verb in VERBS else "train"
    files, rest = _leading_files(rest)
    return Command(
        program=program,
        verb=verb,
        files=tuple(files),
        values=_flags(rest),
        environment={**(environment or {}), **set_here},
        launcher=launcher,
        launcher_file=launcher_file,
    )


def _lines(text: str, name: str) -> Iterable[list[str]]:
    joined = text.replace("\\\r\n", " ").replace("\\\n", " ")
    lines = joined.splitlines()
    number = 0
    while number < len(lines):
        start, block = number, lines[number]
        words = _split(block)
        while words is None and number + 1 < len(lines):
            # A quote that is open at the end of a line goes on in the next one.
            number += 1
            block = f"{block}\n{lines[number]}"
            words = _split(block)
        if words is None:
            raise ImportFault(f"{name}:{start + 1}: a quote is not closed")
        yield words
        number += 1


def _split(line: str) -> list[str] | None:
    lexer = shlex.shlex(line, posix=True, punctuation_chars=";&|<>")
    lexer.whitespace_split = True
    try:
        return [clean(word) for word in lexer]
    except ValueError:
        return None


def _commands(words: list[str]) -> list[list[str]]:
    """Return the commands of a line, without what follows a redirection."""
    commands: list[list[str]] = [[]]
    for word in words:
        if word in ENDS:
            commands.append([])
        else:
            commands[-1].append(word)
    return commands


def _is_trainer(words: list[str]) -> bool:
    rest = [word for word in words if not ASSIGNMENT.fullmatch(word)]
    names = [_base(word) for word in rest[:1]]
    scripts = [word for word in rest if word.endswith(".py")]
    return any(name in PROGRAMS for name in names) or (
        bool(scripts) and any(word.startswith("--") for word in rest)
    )


def _base(word: str) -> str:
    return word.replace("\\", "/").rsplit("/", 1)[-1]


def _assignments(words: Iterable[str]) -> dict[str, str]:
    pairs = (word.partition("=") for word in words if ASSIGNMENT.fullmatch(word))
    return {name: value for name, _, value in pairs}


def _launcher(words: list[str]) -> tuple[dict[str, int], str, list[str]]:
    """Return what a launcher such as torchrun is told, and the words after its own."""
    if not words or _base(words[0]) not in (*PROGRAMS[4:], "python", "python3"):
        return {}, "", words
    end = next((i for i, word in enumerate(words) if i and _starts_program(word)), len(words) - 1)
    numbers: dict[str, int] = {}
    file = ""
    for index, word in enumerate(words[:end]):
        name, _, value = word.lstrip("-").partition("=")
        value = value or (words[index + 1] if index + 1 < len(words) else "")
        if word.startswith("--") and name in LAUNCHER_NUMBERS and value.isdecimal():
            numbers[LAUNCHER_NUMBERS[name]] = min(int(value[:6]), 100_000)
        if word.startswith("--") and name == "config_file":
            file = value
    return numbers, file, words[end:]


def _starts_program(word: str) -> bool:
    return word.endswith(".py") or _base(word) in PROGRAMS[:4] or word.startswith("axolotl.")


def _leading_files(words: list[str]) -> tuple[list[str], list[str]]:
    """Return the configuration files before the first flag, `--config` among them, and the other words."""
    if words[:1] == ["--config"]:
        words = words[1:]
    count = next((i for i, word in enumerate(words) if not _is_file(word)), len(words))
    return words[:count], words[count:]


def _is_file(word: str) -> bool:
    return word.lower().endswith((".yaml", ".yml", ".json")) and not word.startswith("-")


def _flags(words: list[str]) -> dict[str, Any]:
    """Return the values of flags (`--name value`, `--name=value`, `--name`) and of `name=value`."""
    values: dict[str, Any] = {}
    name = ""
    for word in words:
        if re.match(r"--?[A-Za-z]", word):
            name, has_value, value = word.lstrip("-").partition("=")
            name = name.replace("-", "_")
            values[name] = value if has_value else True
            name = "" if has_value else name
        elif name:
            values[name] = _joined(values[name], word)
        elif (pair := word.partition("="))[1]:
            values[pair[0]] = typed(pair[2])
    return values


def _joined(before: Any, word: str) -> Any:
    if before is True:
        return word
    return [*before, word] if isinstance(before, list) else [before, word]
