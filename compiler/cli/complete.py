"""`tunec __complete WORDS`: what the last word could become; the scripts of `tunec completion` ask it.

One candidate a line, with its description after a tab; a line `@files .toml` stands for the files of that kind.
A candidate that ends in `.` or `=` goes on.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..settings import Setting

Candidate = tuple[str, str]
SPECS: Candidate = ("@files .toml", "")
FILES: Candidate = ("@files *", "")


def complete(words: Sequence[str], parser: argparse.ArgumentParser) -> int:
    """Print the candidates for the last word; the words before it are those of the command so far."""
    for name, text in candidates(words or [""], parser):
        # What shells show is one line, without marks that a terminal would obey.
        short = " ".join(text.split())[:80]
        print(f"{name}\t{short}" if short else name)
    return 0


def candidates(words: Sequence[str], parser: argparse.ArgumentParser) -> list[Candidate]:
    """Return what the last word could become, with a description of each."""
    *before, word = words
    verbs = _verbs(parser)
    if not before:
        options = _options(parser) if word.startswith("-") else []
        return _starting(word, [*verbs.items(), *options])
    verb = _parser_of(parser, before[0])
    return [] if verb is None else _arguments(verb, before[0], before[1:], word)


def _verbs(parser: argparse.ArgumentParser) -> dict[str, str]:
    return {item.dest: item.help or "" for item in _group(parser)._choices_actions}


def _group(parser: argparse.ArgumentParser) -> Any:
    return next(a for a in parser._actions if isinstance(a, argparse._SubParsersAction))


def _parser_of(parser: argparse.ArgumentParser, verb: str) -> argparse.ArgumentParser | None:
    found: argparse.ArgumentParser | None = _group(parser).choices.get(verb)
    return found


def _arguments(
    parser: argparse.ArgumentParser, verb: str, before: Sequence[str], word: str
) -> list[Candidate]:
    """Complete an option, the value of one, or an argument of a verb."""
    option = _waiting(parser, before)
    if option is not None:
        return _values(option, verb, word)
    name, equals, value = word.partition("=")
    if equals and name.startswith("--"):
        action = parser._option_string_actions.get(name)
        found = _values(action, verb, value) if action is not None else []
        return [(text if text[:1] == "@" else f"{name}={text}", help_) for text, help_ in found]
    if word.startswith("-"):
        return _starting(word, _options(parser))
    positional = _positional(parser, before)
    return [] if positional is None else _values(positional, verb, word)


def _positional(parser: argparse.ArgumentParser, before: Sequence[str]) -> Any:
    """Return the argument that comes next: one of few words, such as an action, is said once."""
    found = [action for action in parser._actions if not action.option_strings]
    said = len(found) > 1 and found[0].choices is not None and set(before) & set(found[0].choices)
    return next(iter(found[1:] if said else found), None)


def _waiting(parser: argparse.ArgumentParser, before: Sequence[str]) -> Any:
    """Return the option whose value comes next, if any."""
    action = parser._option_string_actions.get(before[-1]) if before else None
    return action if action is not None and action.nargs != 0 else None


def _options(parser: argparse.ArgumentParser) -> list[Candidate]:
    return [
        (name, action.help or "")
        for action in parser._actions
        for name in action.option_strings
        if name.startswith("--")
    ]


def _values(action: Any, verb: str, word: str) -> list[Candidate]:
    """Return the values an option or argument takes."""
    if action.choices is not None:
        return _starting(word, [(str(choice), "") for choice in action.choices])
    if action.dest == "settings":
        return _settings(word)
    if verb == "explain":
        return _topics(word)
    if action.type is Path:
        return [SPECS if action.metavar == "SPEC" else FILES]
    return []


def _starting(word: str, found: Iterable[Candidate]) -> list[Candidate]:
    return [item for item in found if item[0].startswith(word)]


# --- keys of a spec --------------------------------------------------------------------------------------


def _topics(word: str) -> list[Candidate]:
    """Return codes, sections, keys, and after `[` the kinds of a section."""
    if word[:1].isupper():
        from ..codes import all_codes

        return sorted(_starting(word.upper(), ((i.code, i.name) for i in all_codes().values())))
    if re.search(r"\[[^\]]*\Z", word):
        return _starting(word, _kinds(word.rpartition("[")[0]))
    return _starting(word, ((name.rstrip("."), text) for name, text in _keys(word, "")))


def _settings(word: str) -> list[Candidate]:
    """Return `section.key=` for `--set`, and after `=` the choices of the key."""
    key, equals, _ = word.partition("=")
    found = _choices(key) if equals else _keys(word, "[0]")
    return _starting(word, found)


def _keys(word: str, element: str) -> Iterator[Candidate]:
    """Yield the keys one level below what is written; lists get `element` behind their name."""
    parent = word.rpartition(".")[0]
    steps = _plain(parent).count(".") + 1 if parent else 0
    seen: dict[str, str] = {}
    for item in _below(_plain(parent)):
        if len(item.way) != steps + 1:
            continue
        name = f"{parent}.{item.name}" if parent else item.name
        inner = item.tables
        if inner:
            name += (element if inner[0].is_list else "") + "."
        elif element:
            name += "="
        seen.setdefault(name, item.doc)
    yield from seen.items()


def _below(parent: str) -> Iterator[Setting]:
    from ..settings import ROOT, matching

    if not parent:
        yield from ROOT.settings
        return
    kind = re.search(r"\[([a-z0-9-]+)\]\Z", parent)
    for item in matching(parent):
        for table in item.tables:
            if kind is None or table.way[-1].kind == kind[1]:
                yield from table.settings


def _kinds(topic: str) -> Iterator[Candidate]:
    from ..settings import matching

    for item in matching(topic):
        for table in item.tables:
            if table.way[-1].kind:
                yield f"{topic}[{table.way[-1].kind}]", table.doc


def _choices(key: str) -> Iterator[Candidate]:
    """Yield `key=choice` for every choice of a key, or both booleans."""
    from ..field_types import arms_of, choices_of
    from ..settings import matching

    found: dict[str, str] = {}
    for item in matching(_plain(key)):
        values = list(choices_of(item.type_)) + (
            [True, False] if bool in arms_of(item.type_) else []
        )
        for value in values:
            word = str(value).lower() if isinstance(value, bool) else str(value)
            found.setdefault(f"{key}={word}", item.doc)
    yield from found.items()


def _plain(path: str) -> str:
    """Return a path without the numbers of elements: `data.sources[0]` is `data.sources`."""
    return re.sub(r"\[\d*\]", "", path)
