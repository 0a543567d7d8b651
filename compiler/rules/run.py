"""The run folder, and the folders beside it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from ..diagnostics import Diagnostic, Label, SpecPath, error
from ..facts import Facts
from ..spec import CatalogSource, Spec
from .rule import Rule

OUTPUT = ("run", "output_dir")
RESUME = ("run", "resume_from")


def check_output(spec: Spec, facts: Facts) -> Iterator[Diagnostic]:
    """The run folder cannot be made or written.

    Found at launch, this costs a booked machine; found at the first checkpoint, it costs hours.

    Fails:
    ```toml
    [run]
    output_dir = "data/chat.jsonl"
    ```
    Passes:
    ```toml
    [run]
    output_dir = "runs/first"
    ```
    """
    folder = facts.output
    texts = {
        "file": f"`{spec.run.output_dir}` is a file, not a folder",
        "blocked": f"`{spec.run.output_dir}` cannot be made: `{_base_name(folder.blocker)}` is a file",
        "broken-link": f"`{spec.run.output_dir}` cannot be made: `{_base_name(folder.blocker)}` is a link that leads nowhere",
        "not-writable": f"`{spec.run.output_dir}` is not writable",
        "impossible": f"`{spec.run.output_dir}` cannot be a folder here",
    }
    if folder.state in texts:
        yield error("F301", texts[folder.state], OUTPUT, helps=("name another folder",))


def check_output_place(spec: Spec, facts: Facts) -> Iterator[Diagnostic]:
    """The run folder is a folder with other things in it: the spec's own, the model's, or the data's.

    A run writes and, when told to overwrite, deletes in its folder; so the folder must be the run's alone.

    Fails:
    ```toml
    [run]
    output_dir = "model"
    ```
    Passes:
    ```toml
    [run]
    output_dir = "model-runs/first"
    ```
    """
    output = _real(facts.output.path)
    if output == _real(facts.base) or output in _real(facts.base).parents:
        yield error(
            "F302",
            f"`{spec.run.output_dir}` is the spec's own folder, or one around it",
            OUTPUT,
            helps=("give the run a folder of its own, such as `runs/first`",),
        )
    model = _real(facts.base / spec.model.path)
    if facts.model.state == "folder" and (output == model or model in output.parents):
        yield error(
            "F302",
            f"`{spec.run.output_dir}` lies in the folder of the model",
            OUTPUT,
            labels=(Label(("model", "path"), "the model is here"),),
        )
    in_it = [
        Label(("data", "sources", index, "path"), "the data is here")
        for index, source in enumerate(spec.data.sources)
        if not isinstance(source, CatalogSource) and source.hub is None
        if output == _real(facts.base / source.path).parent
    ]
    if in_it:
        yield error(
            "F302",
            f"`{spec.run.output_dir}` is the folder of the data",
            OUTPUT,
            labels=tuple(in_it),
        )


def check_foreign(spec: Spec, facts: Facts) -> Iterator[Diagnostic]:
    """The run folder holds files that tunec did not write.

    Fails:
    ```toml
    [run]
    output_dir = "other"
    ```
    Passes:
    ```toml
    [run]
    output_dir = "runs/first"
    ```
    """
    if facts.output.foreign and not any(d.code == "F302" for d in check_output_place(spec, facts)):
        yield error(
            "F303",
            f"`{spec.run.output_dir}` holds files of something else",
            OUTPUT,
            notes=("it has no manifest.json of tunec",),
            helps=("name an empty or a new folder",),
        )


def check_resume_from(spec: Spec, facts: Facts) -> Iterator[Diagnostic]:
    """The checkpoint to go on from is not there, or would be deleted first.

    `overwrite` empties the run folder before the run begins.

    Fails:
    ```toml
    [run]
    resume_from = "runs/none"
    ```
    Passes:
    ```toml
    [run]
    resume_from = "checkpoint"
    ```
    """
    named = spec.run.resume_from
    if named is None:
        return
    state = facts.paths.get(named)
    texts = {
        "missing": f"there is no checkpoint `{named}`",
        "file": f"`{named}` is a file, a checkpoint is a folder",
        "unreadable": f"`{named}` cannot be read",
    }
    if state in texts:
        yield error("F304", texts[state], RESUME)
    output, source = _real(facts.output.path), _real(facts.base / named)
    is_inside = output == source or output in source.parents
    if is_inside and spec.run.on_existing == "overwrite":
        yield error(
            "F304",
            f"`{named}` would be deleted before the run begins",
            RESUME,
            labels=(
                Label(("run", "on_existing"), "empties the run folder"),
                Label(OUTPUT, "which holds the checkpoint"),
            ),
            helps=("give the new run another folder",),
        )


def check_folders(spec: Spec, facts: Facts) -> Iterator[Diagnostic]:
    """Two things are to be written to the same folder, or over the model.

    The merged model has the files of a model; in the base model's folder it would take their place.

    Fails:
    ```toml
    [export]
    output_dir = "model"
    ```
    Passes:
    ```toml
    [export]
    output_dir = "merged"
    ```
    """
    taken: dict[Path, tuple[SpecPath, str]] = {}
    if facts.model.state == "folder":
        taken[_real(facts.base / spec.model.path)] = (("model", "path"), "the model is here")
    taken[_real(facts.output.path)] = (OUTPUT, "the run writes here")
    for path, named in _written(spec):
        place = _real(facts.base / named) if named is not None else None
        if place is None:
            continue
        if place in taken:
            other, words = taken[place]
            yield error(
                "F305",
                f"`{named}` is used for something else",
                path,
                labels=(Label(other, words),),
                helps=("name a folder of its own",),
            )
        taken.setdefault(place, (path, "and this is written here"))


def _written(spec: Spec) -> Iterator[tuple[SpecPath, str | None]]:
    yield ("export", "output_dir"), spec.export.output_dir
    yield ("data", "prepared_dir"), spec.data.prepared_dir
    if spec.profiler is not None:
        yield ("profiler", "output_dir"), spec.profiler.output_dir
    if spec.benchmark is not None:
        yield ("benchmark", "output_dir"), spec.benchmark.output_dir


def _real(path: Path) -> Path:
    try:
        return Path(os.path.realpath(path)) if len(os.fspath(path)) < 2**16 else path
    except (OSError, ValueError):
        return path


def _base_name(path: Path | None) -> str:
    return path.name if path else "?"


RULES = (
    Rule("F301", "run folder unusable", factual=check_output),
    Rule("F302", "run folder is another folder", factual=check_output_place),
    Rule("F303", "run folder holds other files", factual=check_foreign),
    Rule("F304", "checkpoint to go on from", factual=check_resume_from),
    Rule("F305", "folder used twice", factual=check_folders),
)
