"""Streams, and the processes that put batches together."""

from __future__ import annotations

from collections.abc import Iterator

from ..diagnostics import Diagnostic, Label, SpecPath, error
from ..field_types import default_of, fields_of
from ..spec import CatalogSource, Data, Spec
from .look import sources_of
from .rule import Rule

STREAMING: SpecPath = ("data", "streaming")


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
    if data.batch_rows != default_of(fields_of(Data)["batch_rows"]):
        yield _needs_all(("data", "batch_rows"), "is for preparing all rows")
    for path, source in sources_of(spec):
        if source.limit is not None:
            yield _needs_all((*path, "limit"))
        if not isinstance(source, CatalogSource) and source.sample is not None:
            yield _needs_all((*path, "sample"))


def _needs_all(path: SpecPath, label: str = "needs all rows") -> Diagnostic:
    return error(
        "D722",
        f"`{path[-1]}` does not go with streaming",
        path,
        label=label,
        labels=(Label(STREAMING, "rows are read as they are needed"),),
        helps=("leave one of the two out",),
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
    Rule("D724", "loader setting without loaders", pure=check_loader),
)
