"""Several sources, hub data sets, catalogs and folders: which rows count, and how often."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePath

from ..diagnostics import Diagnostic, Label, error, warning
from ..facts import DataFacts, Facts
from ..names import nearest
from ..spec import CatalogSource, Source, Spec
from .look import data_facts, declared, listed, sources_of
from .rule import Rule

MIX = ("data", "mix")
NAME_HUB = 'name the hub, such as `hub = "huggingface"`'
HUB_SETTINGS = ("revision", "subset", "folder", "token_env")


def check_weights(spec: Spec) -> Iterator[Diagnostic]:
    """Sources have weights, but are not drawn in turns.

    With `mix = "concat"` every row of every source counts once an epoch; a weight would do nothing.

    Fails:
    ```toml
    [data]
    sources = [{ format = "messages", path = "data/chat.jsonl", weight = 0.5 }]
    ```
    Passes:
    ```toml
    [data]
    mix = "interleave-under"
    sources = [
        { format = "messages", path = "data/chat.jsonl", weight = 0.7 },
        { format = "messages", path = "data/more.jsonl", weight = 0.3 },
    ]
    ```
    """
    for index, source in enumerate(spec.data.sources):
        if source.weight is not None and spec.data.mix == "concat":
            yield error(
                "D713",
                "a source has a weight, but the sources are not drawn in turns",
                ("data", "sources", index, "weight"),
                labels=(Label(MIX, "every row counts once"),),
                helps=('write `mix = "interleave-under"`, or leave the weight out',),
            )
    for path, source in sources_of(spec):
        if path[1] == "eval_sources" and source.weight is not None:
            yield error("D713", "evaluation rows have no weight", (*path, "weight"))


def check_some_weights(spec: Spec) -> Iterator[Diagnostic]:
    """Some sources of a mix have a weight, and some have none.

    The share of those without could be anything.

    Fails:
    ```toml
    [data]
    mix = "interleave-under"
    sources = [
        { format = "messages", path = "data/chat.jsonl", weight = 0.7 },
        { format = "messages", path = "data/more.jsonl" },
    ]
    ```
    Passes:
    ```toml
    [data]
    mix = "interleave-under"
    sources = [
        { format = "messages", path = "data/chat.jsonl", weight = 0.7 },
        { format = "messages", path = "data/more.jsonl", weight = 0.3 },
    ]
    ```
    """
    weights = [source.weight for source in spec.data.sources]
    if spec.data.mix == "concat" or None not in weights or not any(weights):
        return
    without = weights.index(None)
    given = next(index for index, weight in enumerate(weights) if weight is not None)
    yield error(
        "D714",
        "some sources of the mix have a weight, and some have none",
        ("data", "sources", without),
        label="no weight here",
        labels=(Label(("data", "sources", given, "weight"), "a weight here"),),
        helps=("give every source a weight, or none for equal shares",),
    )


def check_mix(spec: Spec) -> Iterator[Diagnostic]:
    """A single source is drawn in turns with nothing.

    Fails:
    ```toml
    [data]
    mix = "interleave-over"
    ```
    Passes:
    ```toml
    [data]
    mix = "concat"
    ```
    """
    if spec.data.mix != "concat" and len(spec.data.sources) == 1:
        yield warning(
            "D715",
            f'`mix = "{spec.data.mix}"` has no effect on one source',
            MIX,
            labels=(Label(("data", "sources"), "one source"),),
        )


def check_sample(spec: Spec, facts: Facts) -> Iterator[Diagnostic]:
    """More rows are drawn than there are: some count several times.

    `sample` draws from the rows that `limit` leaves.

    Fails:
    ```toml
    [data]
    sources = [{ format = "messages", path = "data/chat.jsonl", sample = 1000 }]
    ```
    Passes:
    ```toml
    [data]
    sources = [{ format = "messages", path = "data/chat.jsonl", sample = 10 }]
    ```
    """
    for path, source, fact in data_facts(spec, facts):
        drawn = None if isinstance(source, CatalogSource) else source.sample
        if drawn is not None and fact.num_rows and drawn > fact.num_rows:
            yield warning(
                "D716",
                f"{drawn:,} rows are drawn from {fact.num_rows:,}: some count several times",
                (*path, "sample" if fact.entry is None else "entry"),
                labels=(Label((*path, "limit"), "rows to draw from"),)
                if source.limit is not None and fact.entry is None
                else (),
            )


def check_hub(spec: Spec) -> Iterator[Diagnostic]:
    """A setting of hub data sets stands beside a file.

    Fails:
    ```toml
    [data]
    sources = [{ format = "messages", path = "data/chat.jsonl", revision = "main" }]
    ```
    Passes:
    ```toml
    [data]
    sources = [{ format = "messages", path = "owner/chats", hub = "huggingface", revision = "v1.0" }]
    ```
    """
    for path, source in sources_of(spec):
        for name, text in _hub_settings(source):
            label = Label((*path, "path"), "not on a hub")
            yield error("D717", text, (*path, name), labels=(label,), helps=(NAME_HUB,))


def check_declared_hub(spec: Spec, facts: Facts) -> Iterator[Diagnostic]:
    """Say the same of entries of a catalog."""
    for path, source in declared(spec, facts):
        for _, text in _hub_settings(source):
            yield error("D717", text, path, helps=(NAME_HUB,))


def _hub_settings(source: Source) -> Iterator[tuple[str, str]]:
    """Yield the settings of hubs beside a file, and what is said of each."""
    if isinstance(source, CatalogSource) or source.hub is not None:
        return
    kind = "an address" if "://" in source.path else "a file"
    for name in HUB_SETTINGS:
        if getattr(source, name) is not None:
            yield name, f"`{name}` belongs to data sets of a hub, `{source.path}` is {kind}"


def check_catalog(spec: Spec, facts: Facts) -> Iterator[Diagnostic]:
    """A catalog, or an entry of it, cannot be used.

    A catalog is a TOML file with a table for each data set, which holds the keys of a source. Paths in it start
    from its own folder.

    Fails:
    ```toml
    [data]
    sources = [{ format = "catalog", entry = "chat" }]
    ```
    Passes:
    ```toml
    [data]
    sources = [{ format = "catalog", entry = "chats" }]
    ```
    """
    for (path, named), (_, _, fact) in zip(sources_of(spec), data_facts(spec, facts), strict=False):
        if fact.entry is None or not fact.entry.problem or not isinstance(named, CatalogSource):
            continue
        is_entry = bool(fact.entry.names) or fact.entry.problem.startswith("entry")
        near = nearest(named.entry, fact.entry.names)
        yield error(
            "D718",
            fact.entry.problem,
            (*path, "entry" if is_entry else "catalog"),
            notes=(f"its entries are {listed(fact.entry.names[:20])}",) if fact.entry.names else (),
            helps=(f"a similar name is `{near}`",) if near is not None else (),
        )


def check_folder(spec: Spec, facts: Facts) -> Iterator[Diagnostic]:
    """A folder or pattern holds data files of several kinds, or none at all.

    The rows of several files are read as one data set, so all of them must be of one kind.

    Fails:
    ```toml
    [data]
    sources = [{ format = "messages", path = "data/mixed" }]
    ```
    Passes:
    ```toml
    [data]
    sources = [{ format = "messages", path = "data/many" }]
    ```
    """
    for path, source, fact in data_facts(spec, facts):
        if fact.state not in ("folder", "glob") or isinstance(source, CatalogSource):
            continue
        if not fact.files:
            yield error("D719", f"`{source.path}` holds no data files", _path(path, fact))
        kinds = sorted({PurePath(name).suffix for name in fact.files})
        if len(kinds) > 1:
            yield error(
                "D719",
                f"`{source.path}` mixes {listed(kinds)} files",
                _path(path, fact),
                helps=(f"name those of one kind with a pattern such as `*{kinds[0]}`",),
            )


def _path(path: tuple[str | int, ...], fact: DataFacts) -> tuple[str | int, ...]:
    return (*path, "path" if fact.entry is None else "entry")


RULES = (
    Rule("D713", "weight without a mix", pure=check_weights),
    Rule("D714", "weights for some sources", pure=check_some_weights),
    Rule("D715", "mix of one source", pure=check_mix),
    Rule("D716", "rows drawn several times", factual=check_sample),
    Rule("D717", "hub setting without a hub", pure=check_hub, factual=check_declared_hub),
    Rule("D718", "catalog unusable", factual=check_catalog),
    Rule("D719", "folder of several kinds", factual=check_folder),
)
