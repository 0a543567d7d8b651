"""Data files and their rows."""

from __future__ import annotations

import os
from collections.abc import Iterator

from ..diagnostics import Diagnostic, Label, Place, SpecPath, error, warning
from ..facts import DataFacts, Facts
from ..facts.heads import COMPRESSED, KINDS, TABLES
from ..spec import CatalogSource, Spec
from .columns import missing_columns
from .look import data_facts, is_named_here, listed, sources_of
from .rule import Rule

_TEXTS = tuple(kind for kind in KINDS if kind not in TABLES)
KNOWN_KINDS = (
    f"known are {listed(KINDS)}, and {listed(_TEXTS)} with {listed(COMPRESSED, 'or')} behind"
)


def check_files(spec: Spec, facts: Facts) -> Iterator[Diagnostic]:
    """A data file is missing or not a file that can be read.

    Fails:
    ```toml
    [[data.sources]]
    format = "messages"
    path = "data/none.jsonl"
    ```
    Passes:
    ```toml
    [[data.sources]]
    format = "messages"
    path = "data/chat.jsonl"
    ```
    """
    for path, text, fact in _sources(spec, facts):
        texts = {
            "missing": f"there is no data file `{text}`",
            "unreadable": f"`{text}` cannot be read: {fact.problem}",
            "unknown-kind": f"`{text}` is no data file by its name",
            "impossible": f"`{text}` cannot be a path here",
        }
        if fact.state in texts:
            helps = (KNOWN_KINDS,) if fact.state == "unknown-kind" else ()
            yield error("D701", texts[fact.state], path, helps=helps)


def check_rows(spec: Spec, facts: Facts) -> Iterator[Diagnostic]:
    """A row cannot be used: broken JSON, a missing column, a wrong type, roles out of order.

    The first bad row of each source is shown. Files of every kind are looked into: `.json`, `.jsonl`, `.csv`, `.txt`,
    compressed ones, and with pyarrow `.parquet`, `.arrow` and `.feather`. The first 8 MiB of a source are checked (of
    tables the first 1,024 rows), the rest when the run prepares its data; `tunec plan` says how far the check went.
    How a row is read follows from the objective too: DPO reads `chosen` and `rejected` where SFT reads the answer.
    Media are looked for as well, those of the first 200 rows.

    Fails:
    ```toml
    [[data.sources]]
    format = "messages"
    path = "data/bad.jsonl"
    ```
    Passes:
    ```toml
    [[data.sources]]
    format = "messages"
    path = "data/chat.jsonl"
    ```
    """
    sources = [source for _, source, _ in data_facts(spec, facts)]
    for (path, text, fact), source in zip(_sources(spec, facts), sources, strict=False):
        # A column that no row has is reported as that, with the similar names.
        if fact.bad_row is not None and not missing_columns(spec, source, fact):
            bad = fact.bad_row
            # Rows that are skipped are listed when the data are prepared.
            finding = warning if spec.data.bad_rows == "skip" else error
            file = bad.file or fact.path
            named = text if not fact.files else f"{text}: {file.name}"
            yield finding(
                "D702",
                f"row at `{named}:{bad.line}`: {bad.message}",
                path,
                place=Place(file, bad.line, 1),
                helps=(bad.help,) if bad.help else (),
            )


def check_empty(spec: Spec, facts: Facts) -> Iterator[Diagnostic]:
    """A data file has no rows.

    Fails:
    ```toml
    [[data.sources]]
    format = "messages"
    path = "data/empty.jsonl"
    ```
    Passes:
    ```toml
    [[data.sources]]
    format = "messages"
    path = "data/chat.jsonl"
    ```
    """
    for path, text, fact in _sources(spec, facts):
        source = getattr(spec.data, str(path[1]))[path[2]]
        # A limit below 1 is out of range, and no word on the file.
        wanted = source.limit is None or source.limit > 0
        if fact.num_rows == 0 and fact.bad_row is None and wanted:
            yield error("D703", f"the data set `{text}` is empty", path)


def check_two_evals(spec: Spec) -> Iterator[Diagnostic]:
    """Evaluation rows are named twice.

    Either rows are held out of the training data, or there are evaluation sets of their own.

    Fails:
    ```toml
    [data]
    eval_rows = 2
    eval_sources = [{ format = "messages", path = "data/chat.jsonl" }]
    ```
    Passes:
    ```toml
    [data]
    eval_rows = 2
    ```
    """
    if spec.data.eval_rows and spec.data.eval_sources:
        yield error(
            "D704",
            "evaluation rows are both held out and named as sources",
            ("data", "eval_rows"),
            label="held out of the training data",
            labels=(Label(("data", "eval_sources"), "and a set of their own"),),
            helps=("keep one of the two",),
        )


def check_held_out(spec: Spec, facts: Facts) -> Iterator[Diagnostic]:
    """More rows are held out than there are.

    Fails:
    ```toml
    [data]
    eval_rows = 1000
    ```
    Passes:
    ```toml
    [data]
    eval_rows = 2
    ```
    """
    total = total_rows(facts)
    rows = spec.data.eval_rows
    if total and num_held_out(rows, total) >= total:
        yield error(
            "D705",
            f"`data.eval_rows` is {rows:,}, the training data has {_rows(total)}",
            ("data", "eval_rows"),
            helps=("leave rows to train on",),
        )


def check_twice(spec: Spec) -> Iterator[Diagnostic]:
    """The same file is named twice.

    Its rows then count twice, and as evaluation data they measure what was memorized.

    Fails:
    ```toml
    [data]
    eval_sources = [{ format = "messages", path = "data/chat.jsonl" }]
    ```
    Passes:
    ```toml
    [data]
    eval_sources = [{ format = "messages", path = "data/more.jsonl" }]
    ```
    """
    seen: dict[str, SpecPath] = {}
    for path, source in sources_of(spec):
        if not is_named_here(source):
            continue
        text = getattr(source, "path", "")
        name = os.path.normpath(text)
        if name in seen:
            yield warning(
                "D706",
                f"`{text}` is named twice",
                (*path, "path"),
                label="again here",
                labels=(Label((*seen[name], "path"), "first here"),),
            )
        seen.setdefault(name, path)


def total_rows(facts: Facts) -> int | None:
    """Return the rows of all training sources, or None when one cannot be counted."""
    counts = [fact.num_rows for fact in facts.data]
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None


def num_held_out(eval_rows: int | float, total: int) -> int:
    """Return the rows held out of `total`: a count as it is; a fraction rounded, and one row at least."""
    if isinstance(eval_rows, int):
        return eval_rows
    # What is no share of the rows at all is refused as that.
    share = min(eval_rows, 1.0) if eval_rows > 0 else 0.0
    return max(1, round(share * total)) if share else 0


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count:,} rows"


def _sources(spec: Spec, facts: Facts) -> Iterator[tuple[SpecPath, str, DataFacts]]:
    """Yield the place and the text of each path, and what is known about it."""
    for path, source, fact in data_facts(spec, facts):
        named = source.entry if isinstance(source, CatalogSource) else source.path
        yield (*path, "path" if fact.entry is None else "entry"), named, fact


RULES = (
    Rule("D701", "data file missing", factual=check_files),
    Rule("D702", "bad row", factual=check_rows),
    Rule("D703", "empty data set", factual=check_empty),
    Rule("D704", "evaluation rows twice", pure=check_two_evals),
    Rule("D705", "too many rows held out", factual=check_held_out),
    Rule("D706", "file named twice", pure=check_twice),
)
