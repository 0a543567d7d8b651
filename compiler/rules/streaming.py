"""Streams, and the processes that put batches together."""

from __future__ import annotations

from collections.abc import Iterator

from ..diagnostics import Diagnostic, Label, SpecPath, error, warning
from ..facts import Facts
from ..spec import CatalogSource, Spec
from .look import data_facts, sources_of
from .rule import Rule

STREAMING: SpecPath = ("data", "streaming")
WORKERS: SpecPath = ("data", "loader_workers")


def check_steps(spec: Spec) -> Iterator[Diagnostic]:
    """A stream has no end that is known beforehand, so the training needs a number of steps.

    Without it neither the schedule of the learning rate nor the end of the run is known.

    Fails:
    ```toml
    [data]
    streaming = true
    [training]
    epochs = 1
    ```
    Passes:
    ```toml
    [data]
    streaming = true
    [training]
    steps = 4
    ```
    """
    if spec.data.streaming and spec.training.steps is None:
        given = (Label(("training", "epochs"), "epochs of a stream are not known"),)
        yield error(
            "D720",
            "streaming needs `training.steps`: how long an epoch is cannot be known",
            STREAMING,
            labels=given if spec.training.epochs is not None else (),
            helps=("write the number of optimizer steps as `steps` in `[training]`",),
        )


def check_stream_rows(spec: Spec) -> Iterator[Diagnostic]:
    """A share of a stream cannot be held out: the number of its rows is not known.

    Fails:
    ```toml
    [data]
    streaming = true
    eval_rows = 0.1
    ```
    Passes:
    ```toml
    [data]
    streaming = true
    eval_rows = 2
    ```
    """
    if spec.data.streaming and isinstance(spec.data.eval_rows, float) and spec.data.eval_rows:
        yield error(
            "D721",
            "a share of a stream cannot be held out: the number of its rows is not known",
            ("data", "eval_rows"),
            labels=(Label(STREAMING, "rows are read as they are needed"),),
            helps=("write a number of rows, which are taken from the beginning",),
        )


def check_stream_settings(spec: Spec) -> Iterator[Diagnostic]:
    """A setting needs all rows at once, and a stream never has them.

    Rows are drawn at random, grouped by length and kept tokenized only where all of them are at hand. `limit` is
    for trying things out, and then the data are small enough not to be streamed.

    Fails:
    ```toml
    [data]
    streaming = true
    group_by_length = true
    ```
    Passes:
    ```toml
    [data]
    streaming = true
    ```
    """
    if not spec.data.streaming:
        return
    data = spec.data
    whole = {"group_by_length": data.group_by_length, "prepared_dir": data.prepared_dir}
    for name, value in whole.items():
        if value:
            yield _needs_all(("data", name))
    for path, source in sources_of(spec):
        if source.limit is not None:
            yield _needs_all((*path, "limit"))
        if not isinstance(source, CatalogSource) and source.sample is not None:
            yield _needs_all((*path, "sample"))


def _needs_all(path: SpecPath) -> Diagnostic:
    return error(
        "D722",
        f"`{path[-1]}` does not go with streaming",
        path,
        label="needs all rows",
        labels=(Label(STREAMING, "rows are read as they are needed"),),
        helps=("leave one of the two out",),
    )


def check_stream_workers(spec: Spec, facts: Facts) -> Iterator[Diagnostic]:
    """More loader processes than files: some of them have nothing to read.

    A stream is shared out by files, each read by one process.

    Fails:
    ```toml
    [data]
    streaming = true
    loader_workers = 4
    ```
    Passes:
    ```toml
    [data]
    streaming = true
    loader_workers = 1
    ```
    """
    if not spec.data.streaming or not facts.data:
        return
    known = [fact for _, _, fact in data_facts(spec, facts)][: len(facts.data)]
    if any(fact.state not in ("ok", "folder", "glob") for fact in known):
        return
    files = sum(max(1, len(fact.files)) for fact in known)
    if spec.data.loader_workers > files:
        yield warning(
            "D723",
            f"{spec.data.loader_workers} loader processes share {files} {'file' if files == 1 else 'files'}: "
            "the others have nothing to read",
            WORKERS,
            labels=(Label(STREAMING, "each file is read by one process"),),
            helps=(f"set `loader_workers` to {files} or less, or split the files",),
        )


def check_loader(spec: Spec) -> Iterator[Diagnostic]:
    """A setting of loader processes is given, but there are none.

    Fails:
    ```toml
    [data]
    loader_prefetch = 2
    ```
    Passes:
    ```toml
    [data]
    loader_workers = 1
    loader_prefetch = 2
    ```
    """
    if spec.data.loader_workers:
        return
    given = {"loader_prefetch": spec.data.loader_prefetch is not None}
    given["loader_persistent"] = spec.data.loader_persistent
    for name, is_given in given.items():
        if is_given:
            yield error(
                "D724",
                f"`{name}` needs loader processes",
                ("data", name),
                helps=("set `loader_workers` to 1 or more",),
            )


RULES = (
    Rule("D720", "stream without steps", pure=check_steps),
    Rule("D721", "share of a stream held out", pure=check_stream_rows),
    Rule("D722", "setting that needs all rows", pure=check_stream_settings),
    Rule("D723", "more loaders than files", factual=check_stream_workers),
    Rule("D724", "loader setting without loaders", pure=check_loader),
)
