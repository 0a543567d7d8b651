"""The run folder, and names of secrets."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from ..diagnostics import Diagnostic, Label, error
from ..facts import Facts
from ..spec import CatalogSource, Spec
from .rule import Rule

OUTPUT = ("run", "output_dir")
ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


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
    for index, source in enumerate(spec.data.sources):
        if isinstance(source, CatalogSource) or source.hub is not None:
            continue
        if output == _real(facts.base / source.path).parent:
            yield error(
                "F302",
                f"`{spec.run.output_dir}` is the folder of the data",
                OUTPUT,
                labels=(Label(("data", "sources", index, "path"), "the data is here"),),
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


def check_token_name(spec: Spec) -> Iterator[Diagnostic]:
    """A secret stands where the name of an environment variable belongs.

    A spec is committed, copied into the run folder and shown in logs, so it never holds a secret: it names the
    environment variable that does.

    Fails:
    ```toml
    [model]
    token_env = "my-token"
    ```
    Passes:
    ```toml
    [model]
    token_env = "HF_TOKEN"
    ```
    """
    name = spec.model.token_env
    if name is not None and (not ENV_NAME.fullmatch(name) or name.startswith(("hf_", "sk_"))):
        yield error(
            "S501",
            "`model.token_env` is not the name of an environment variable",
            ("model", "token_env"),
            helps=(
                'write the name of the variable, such as `token_env = "HF_TOKEN"`; a secret never stands in a spec',
            ),
        )


def _real(path: Path) -> Path:
    try:
        return Path(os.path.realpath(path))
    except (OSError, ValueError):
        return path


def _base_name(path: Path | None) -> str:
    return path.name if path else "?"


RULES = (
    Rule("F301", "run folder unusable", factual=check_output),
    Rule("F302", "run folder is another folder", factual=check_output_place),
    Rule("F303", "run folder holds other files", factual=check_foreign),
    Rule("S501", "secret in the spec", pure=check_token_name),
)
