"""Columns of data files, and the labels in them."""

from __future__ import annotations

from collections.abc import Iterator

from ..diagnostics import Diagnostic, Label, SpecPath, error, warning
from ..facts import DataFacts, Facts
from ..facts.columns import Columns, named_columns
from ..names import nearest
from ..spec import AlpacaSource, CatalogSource, Kto, MessagesSource, Source, Spec
from .look import data_facts, listed, note
from .rule import Rule


def check_columns(spec: Spec, facts: Facts) -> Iterator[Diagnostic]:
    """No row has a column that the source names.

    The first hundred rows are looked at, and of a `.csv` file the header. What the columns are called is said in
    the note.

    Fails:
    ```toml
    [objective]
    type = "kto"
    [data]
    sources = [{ format = "messages", path = "data/judged.jsonl", label = "lable" }]
    ```
    Passes:
    ```toml
    [objective]
    type = "kto"
    [data]
    sources = [{ format = "messages", path = "data/judged.jsonl", label = "label" }]
    ```
    """
    for path, source, fact in data_facts(spec, facts):
        for setting, column in missing_columns(source, fact).items():
            place = (*path, "entry") if fact.entry is not None else (*path, setting)
            yield _missing(place, column, getattr(source, "path", ""), fact.columns)


def missing_columns(source: Source, fact: DataFacts) -> dict[str, str]:
    """Return the columns that the source names and no row has: setting to column."""
    if fact.columns is None or isinstance(source, CatalogSource):
        return {}
    return {
        setting: column
        for setting, column in named_columns(source).items()
        if column not in fact.columns.names and not _is_told_by_row(source, setting)
    }


def _is_told_by_row(source: Source, setting: str) -> bool:
    """Tell what the check of the rows reports with its line: the columns of a plain conversation."""
    own = {AlpacaSource: ("instruction", "output"), MessagesSource: ("messages",)}
    plain = getattr(source, "chosen", None) is None
    is_read = not isinstance(source, CatalogSource) and source.path.endswith((".json", ".jsonl"))
    return plain and is_read and setting in own.get(type(source), ())


def _missing(path: SpecPath, column: str, file: str, columns: Columns | None) -> Diagnostic:
    names = columns.names if columns is not None else ()
    near = nearest(column, names)
    shown = listed([name[:60] for name in names[:20]]) or "none"
    return error(
        "D710",
        f"no row of `{file}` has the column `{column}`",
        path,
        notes=(f"columns of the first rows: {shown}",),
        helps=(f"a similar name is `{near}`",) if near is not None else (),
    )


def check_labels(spec: Spec, facts: Facts) -> Iterator[Diagnostic]:
    """The first rows are all good, or all bad.

    KTO compares good answers with bad ones; from one kind alone it learns to give every answer more, or less,
    often. The first hundred rows of all sources are looked at.

    Fails:
    ```toml
    [objective]
    type = "kto"
    [data]
    sources = [{ format = "messages", path = "data/praised.jsonl", label = "label" }]
    ```
    Passes:
    ```toml
    [objective]
    type = "kto"
    [data]
    sources = [{ format = "messages", path = "data/judged.jsonl", label = "label" }]
    ```
    """
    if not isinstance(spec.objective, Kto):
        return
    known = [fact.columns for fact in facts.data if fact.columns is not None]
    if len(known) < len(facts.data):
        return
    good, bad = sum(item.num_good for item in known), sum(item.num_bad for item in known)
    if (good == 0) != (bad == 0):
        yield warning(
            "D711",
            f"the first {good + bad:,} rows are all labelled {'good' if good else 'bad'}",
            ("data", "sources"),
            labels=(Label(("objective", "type"), "compares good answers with bad ones"),),
            helps=("add rows of the other kind, or a source that holds them",),
        )


def check_seen(spec: Spec, facts: Facts) -> Iterator[Diagnostic]:
    """The columns of a file are not checked here.

    Of `.json` and `.jsonl` files the first rows are read, of `.csv` files the header. Other files are opened by
    the run alone.

    Fails:
    ```toml
    [data]
    sources = [{ format = "messages", path = "data/table.parquet" }]
    ```
    Passes:
    ```toml
    [data]
    sources = [{ format = "messages", path = "data/chat.jsonl" }]
    ```
    """
    for path, source, fact in data_facts(spec, facts):
        is_other = fact.state == "unknown-kind" and fact.path.suffix in UNSEEN
        if is_other and not isinstance(source, CatalogSource):
            place = (*path, "entry" if fact.entry is not None else "path")
            yield note("D712", f"the columns of `{source.path}` are not checked here", place)


UNSEEN = (".parquet", ".arrow", ".gz", ".zst", ".bz2", ".xz")

RULES = (
    Rule("D710", "column missing", factual=check_columns),
    Rule("D711", "labels all alike", factual=check_labels),
    Rule("D712", "columns not checked", factual=check_seen),
)
