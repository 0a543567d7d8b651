"""Settings to their homes: the part of an import that the tables of `homes` describe in full."""

from __future__ import annotations

from typing import Any

from attrs import Factory, define, evolve

from ..diagnostics import SpecPath
from ..field_types import fields_of, is_required, table_classes
from ..spec import Spec
from .convert import CREDENTIALS, SECRET, SKIP, UnfitError, is_nothing, is_secret
from .draft import Draft, Kind
from .homes import Table
from .homes.entries import ABSENT, Home, Replaced
from .library import Library
from .paths import Place, find, kind_of, steps_of
from .settings import Given, Settings

FILL_IN = "FILL-IN"
TRAINS = ("train", "sft", "dpo", "kto", "reward", "grpo", "cpo", "orpo")
"""Verbs of commands that train."""


@define
class Import:
    """An import under way: what was asked for, what the tables are, and what has been written."""

    settings: Settings
    library: Library
    trainer: str = "LLaMA-Factory"
    draft: Draft = Factory(Draft)
    kinds: dict[str, str] = Factory(dict)
    """Dotted path of a table to its kind; optional tables are present when they stand here."""
    items: dict[str, int] = Factory(dict)
    """Path and kind of a table in a list to its place in it."""

    defaults: dict[str, int] = Factory(dict)
    """Intervals that the trainer uses when none is given, where these are not transformers' 500."""

    @property
    def by_default(self) -> str:
        """The comment of values that nobody wrote."""
        return f"{self.trainer}'s default"

    def put(self, path: str, value: Any, comment: str) -> None:
        """Set a value at a dotted path."""
        self.draft.put(tuple(path.split(".")), value, comment)

    def choose(self, path: str, kind: str, comment: str) -> None:
        """Set the kind of a table."""
        self.kinds[path] = kind
        if kind:
            self.put(f"{path}.type", kind, comment)

    def lose(self, key: str, text: str) -> None:
        """Report a setting that has no place."""
        self.draft.remark(Kind.LOST, key, text)

    def idle(self, key: str, text: str) -> None:
        """Report a setting that changed nothing there either."""
        self.draft.remark(Kind.IDLE, key, text)

    def ask(self, key: str, text: str) -> None:
        """Report what is left to do by hand."""
        self.draft.remark(Kind.DO, key, text)

    def differs(self, key: str, text: str) -> None:
        """Report where the other trainer really did something else than it was told."""
        self.draft.remark(Kind.DIFFERS, key, text)


def place_all(work: Import, table: Table) -> None:
    """Put each setting that has a home of its own there; report those that nothing here does."""
    for name, given in work.settings.given.items():
        entry = table.get(name)
        if isinstance(entry, Replaced):
            _leave(work, name, given, entry)
        elif entry is not None and not is_nothing(given.value):
            place(work, name, given, entry)


def _leave(work: Import, name: str, given: Given, entry: Replaced) -> None:
    if entry.loses(given.value):
        work.lose(name, entry.text)


def place(work: Import, name: str, given: Given, homes: tuple[Home, ...]) -> None:
    """Put a setting at each of its homes that exists in the kinds chosen."""
    apart = [home for home in homes if not home.together]
    found = [(home, where) for home in apart if (where := find(home.path, work.kinds, work.items))]
    if apart and not found and not _is_off(given.value):
        work.idle(name, _belongs(apart))
    for home, where in found:
        _put(work, name, given, home, where)


def _put(work: Import, name: str, given: Given, home: Home, where: Place) -> None:
    try:
        value = home.convert(given.value, where.type)
    except UnfitError as unfit:
        work.lose(name, f"{_shown(given.value)} does not fit `{_dotted(where.path)}`: {unfit}")
        return
    if value is SKIP:
        return
    earlier = work.draft.entries.get(where.path)
    if earlier is not None and earlier.value != value:
        work.lose(name, f"`{_dotted(where.path)}` is set by `{earlier.comment}` already")
        return
    work.draft.put(where.path, value, name)
    if is_secret(home.convert):
        work.ask(name, f"the secret is not copied; set it: export {value}=...")


def _shown(raw: Any) -> str:
    """Return a value for a report, unless it is long or could hold a secret."""
    text = str(raw) if isinstance(raw, str | int | float) else ""
    is_harmless = 0 < len(text) <= 30 and not SECRET.search(text) and not CREDENTIALS.search(text)
    return f"`{text}`" if is_harmless else "the value"


def _is_off(raw: Any) -> bool:
    return is_nothing(raw) or str(raw).strip().lower() in ("false", "0", "-1", "[]", "{}")


def _belongs(homes: list[Home]) -> str:
    tables = dict.fromkeys(home.path.rpartition(".")[0] or home.path for home in homes)
    return f"it belongs to {' and '.join(map(table_words, tables))}, which this run has not"


def table_words(path: str) -> str:
    """Return the table at a path in words: `[method]` of kind lora or oft."""
    kinds = [f"`{' or '.join(step.kinds)}`" for step in steps_of(path) if step.kinds]
    name = ".".join(step.name for step in steps_of(path))
    return f"`[{name}]`" + (f" of kind {' with '.join(kinds)}" if kinds else "")


def _dotted(path: SpecPath) -> str:
    return ".".join(str(part) for part in path)


def place_defaults(work: Import, table: Table) -> None:
    """Write the other trainer's defaults wherever tunec has another one and nothing that fits is given."""
    lost = {remark.key for remark in work.draft.remarks if remark.kind is Kind.LOST}
    given = {name for name in work.settings.given if work.settings.has(name)} - lost
    for name, entry in table.items():
        if name not in given and isinstance(entry, tuple):
            for home in entry:
                _default(work, home)


def _default(work: Import, home: Home) -> None:
    where = find(home.path, work.kinds, work.items) if home.default is not ABSENT else None
    if where is None or where.path in work.draft.entries:
        return
    value = home.convert(home.default, where.type)
    if value is not SKIP and value != where.default:
        work.draft.put(where.path, value, work.by_default)


def name_sources(work: Import) -> None:
    """Let comments and remarks name settings as they were written, with their file where there are several."""
    given = work.settings.given
    is_mixed = len({found.source for found in given.values()}) > 1
    names = {name: found.written or name for name, found in given.items()}
    places = (
        {name: f"{names[name]} ({given[name].source})" for name in given} if is_mixed else names
    )
    for path, entry in work.draft.entries.items():
        work.draft.entries[path] = evolve(entry, comment=places.get(entry.comment, entry.comment))
    work.draft.remarks[:] = [
        evolve(remark, key=names.get(remark.key, remark.key)) for remark in work.draft.remarks
    ]


TRAINING = ("training", "checkpoints", "logging", "data", "evaluation")


def drop_idle_defaults(work: Import, *, is_evaluated: bool) -> None:
    """Take defaults back that say nothing in this run."""
    micro_size = ("evaluation", "micro_size")
    same_size = work.draft.value(*micro_size) == work.draft.value("batch", "micro_size")
    drop: list[SpecPath] = [micro_size] if same_size or not is_evaluated else []
    if work.settings.verb not in TRAINS:
        drop += [path for path in work.draft.entries if path[0] in TRAINING]
    for path in drop:
        entry = work.draft.entries.get(path)
        if entry is not None and entry.comment == work.by_default:
            del work.draft.entries[path]


def fill_required(work: Import) -> None:
    """Put a word to replace wherever a table lacks what it cannot do without."""
    for name, field in fields_of(Spec).items():
        for cls in _classes(work, (name,), field.type):
            _fill(work, (name,), cls)


def _fill(work: Import, path: SpecPath, cls: type) -> None:
    for name, field in fields_of(cls).items():
        here = (*path, name)
        if is_required(cls, name) and not work.draft.below(here):
            if field.type is str:
                work.draft.put(here, FILL_IN, "to fill in: nothing says it")
                work.ask(_dotted(here), f"nothing says it; replace `{FILL_IN}`")
            elif not table_classes(field.type):
                work.draft.put(here, [] if _is_rows(name) else 4, "to fill in: nothing says it")
        for inner in _classes(work, here, field.type):
            _fill(work, here, inner)


def _is_rows(name: str) -> bool:
    return name in ("rewards", "paths")


def _classes(work: Import, path: SpecPath, type_: Any) -> list[type]:
    """Return the class of the table at a path, if one stands there."""
    if not work.draft.below(path) or next(work.draft.items(path), None):
        return []
    kind = work.kinds.get(_dotted(path), work.draft.value(*path, "type", default=None))
    classes = table_classes(type_)
    if len(classes) == 1:
        return classes
    return [cls for cls in classes if kind_of(cls) == kind]
