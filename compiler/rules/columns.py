"""Columns of data files, and the labels in them."""

from __future__ import annotations

from collections.abc import Iterator

from ..diagnostics import Diagnostic, Label, SpecPath, error, warning
from ..facts import DataFacts, Facts
from ..facts.columns import Columns, named_columns
from ..facts.media import MEDIA
from ..facts.sample_kinds import kind_of_rows, wanted_by
from ..names import nearest
from ..spec import AlpacaSource, CatalogSource, Kto, MessagesSource, Source, Spec
from .look import data_facts, listed, note
from .rule import Rule


def check_columns(spec: Spec, facts: Facts) -> Iterator[Diagnostic]:
    """No row has a column that the source names.

    The first hundred rows are looked at, and of `.csv`, `.parquet` and `.arrow` files what the file itself says. What
    the columns are called is said in the note.

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
        for setting, column in missing_columns(spec, source, fact).items():
            place = (*path, "entry") if fact.entry is not None else (*path, setting)
            yield _missing(place, column, getattr(source, "path", ""), fact.columns)


def missing_columns(spec: Spec, source: Source, fact: DataFacts) -> dict[str, str]:
    """Return the columns that the source names and no row has: setting to column."""
    if fact.columns is None or isinstance(source, CatalogSource):
        return {}
    wanted = kind_of_rows(source, wanted_by(spec.objective))
    return {
        setting: column
        for setting, column in named_columns(source, wanted).items()
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
    """The rows of a source are not looked at here.

    They are on a hub or behind an address, or a package is missing on this machine: pyarrow for `.parquet`, `.arrow` and `.feather` files,
    zstandard for `.zst`. What is wrong with them is found when the run prepares its data.

    Fails:
    ```toml
    [data]
    sources = [{ format = "messages", path = "owner/chats", hub = "huggingface" }]
    ```
    Passes:
    ```toml
    [data]
    sources = [{ format = "messages", path = "data/chat.jsonl" }]
    ```
    """
    for path, source, fact in data_facts(spec, facts):
        if isinstance(source, CatalogSource):
            continue
        place = "on a hub" if source.hub is not None else "behind an address"
        why = fact.unread or (f"they are {place}" if fact.state == "elsewhere" else "")
        if why:
            here = (*path, "entry" if fact.entry is not None else "path")
            text = f"the rows of `{source.path}` are not looked at here"
            yield note("D712", text, here, notes=(why,))


def check_marks(spec: Spec, facts: Facts) -> Iterator[Diagnostic]:
    """The texts have marks for media, and the column that would fill them is not named.

    Without it `<image>` is plain text: the model learns to answer about pictures it never sees.

    Fails:
    ```toml
    [data]
    sources = [{ format = "messages", path = "data/pictures.jsonl" }]
    ```
    Passes:
    ```toml
    [data]
    sources = [{ format = "messages", path = "data/pictures.jsonl", images = "images" }]
    ```
    """
    for path, _, fact in data_facts(spec, facts):
        for setting, column in fact.columns.unnamed_media if fact.columns is not None else ():
            yield warning(
                "D725",
                f"the texts hold `<{MEDIA[setting]}>` marks, and the column `{column}` is not named",
                (*path, "path" if fact.entry is None else "entry"),
                helps=(f'write `{setting} = "{column}"`',),
            )


RULES = (
    Rule("D710", "column missing", factual=check_columns),
    Rule("D711", "labels all alike", factual=check_labels),
    Rule("D712", "rows not looked at", factual=check_seen),
    Rule("D725", "marks without media", factual=check_marks),
)
