"""Files of other trainers to plain data: YAML, JSON and text. Nothing in a file is ever run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from attrs import frozen

from ..files import UnreadableError, read_regular_file
from .convert import clean
from .writer import one_line

MAX_VALUES = 50_000
MAX_DEPTH = 40


class ImportFault(Exception):  # noqa: N818 - a message for the user, not a fault of the program
    """A file that cannot be imported; one line says why."""

    def __init__(self, message: str, help: str = "") -> None:
        super().__init__(one_line(message, 400))
        self.help = help


@frozen
class Loaded:
    """A file as plain data, or as text where it is neither YAML nor JSON."""

    name: str
    path: Path
    data: Any
    text: str


def load(path: Path) -> Loaded:
    """Read a file.

    Raises:
        ImportFault: where it cannot be read, or is malformed.
    """
    text = read_text(path)
    suffix = path.suffix.lower()
    if suffix == ".json":
        return Loaded(path.name, path, parse_json(text, str(path)), text)
    if suffix in (".yaml", ".yml") or (suffix != ".sh" and not _is_script(text)):
        found = parse_yaml(text, str(path))
        return Loaded(path.name, path, {} if found is None else found, text)
    return Loaded(path.name, path, None, text)


def read_text(path: Path) -> str:
    """Return the text of a file."""
    try:
        content = read_regular_file(path)
    except UnreadableError as fault:
        raise ImportFault(f"{path}: {fault}") from None
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as fault:
        line = content[: fault.start].count(b"\n") + 1
        raise ImportFault(f"{path}:{line}: the file is not UTF-8") from None


def parse_json(text: str, name: str) -> Any:
    """Return the data of JSON text."""
    try:
        return _plain(json.loads(text, object_pairs_hook=_once), name)
    except json.JSONDecodeError as fault:
        place = f"{name}:{fault.lineno}:{fault.colno}"
        raise ImportFault(f"{place}: no JSON: {fault.msg[:1].lower()}{fault.msg[1:]}") from None
    except (RecursionError, ValueError) as fault:
        raise ImportFault(f"{name}: no JSON: {fault}") from None


def parse_yaml(text: str, name: str) -> Any:
    """Return the data of YAML text, read by the safe loader."""
    try:
        import yaml
    except ImportError:
        raise ImportFault(
            "reading YAML needs PyYAML, which this Python lacks", "pip install 'tunec[import]'"
        ) from None
    try:
        return _plain(yaml.load(text, _loader(yaml)), name)
    except yaml.MarkedYAMLError as fault:
        mark = fault.problem_mark or fault.context_mark
        place = f"{name}:{mark.line + 1}:{mark.column + 1}" if mark else name
        raise ImportFault(f"{place}: no YAML: {fault.problem or fault.context}") from None
    except yaml.YAMLError as fault:
        raise ImportFault(f"{name}: no YAML: {fault}") from None
    except (ValueError, TypeError, LookupError, ArithmeticError, AttributeError) as fault:
        # What the loader's own constructors raise for impossible dates and numbers.
        raise ImportFault(f"{name}: no YAML: {fault}") from None
    except RecursionError:
        raise ImportFault(f"{name}: the values are nested too deeply") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make a mapping of pairs.

    Raises:
        ValueError: where a key stands twice, of which one value would be lost.
    """
    made: dict[str, Any] = {}
    for name, value in pairs:
        if name in made:
            raise ValueError(f"the key `{name[:60]}` stands twice")
        made[name] = value
    return made


def _loader(yaml: Any) -> Any:
    """Return the safe loader, which refuses keys that stand twice as well."""

    class Loader(yaml.SafeLoader):  # type: ignore[misc]
        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            seen = set()
            for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
                name = key.value if isinstance(key, yaml.ScalarNode) and key.value != "<<" else None
                if name is not None and name in seen:
                    text = f"the key `{name[:60]}` stands twice"
                    raise yaml.constructor.ConstructorError(None, None, text, key.start_mark)
                seen.add(name)
            return super().construct_mapping(node, deep)

    return Loader


def _plain(value: Any, name: str) -> Any:
    """Return the data with text for keys and lists for sets; aliases must not blow it up."""
    left = MAX_VALUES

    def walk(item: Any, depth: int) -> Any:
        nonlocal left
        left -= 1
        if left < 0 or depth > MAX_DEPTH:
            raise ImportFault(f"{name}: the file holds more than a configuration")
        if isinstance(item, dict):
            return {clean(str(key)): walk(inner, depth + 1) for key, inner in item.items()}
        if isinstance(item, list | tuple | set):
            return [walk(inner, depth + 1) for inner in item]
        if item is None or isinstance(item, bool | int | float):
            return item
        return clean(item.decode("latin-1") if isinstance(item, bytes) else str(item))

    return walk(value, 0)


def _is_script(text: str) -> bool:
    """Return whether text is a command rather than YAML."""
    first = next((line for line in text.splitlines() if line.strip()), "")
    return first.startswith("#!") or " --" in text.split(": ")[0] or "llamafactory-cli" in first
