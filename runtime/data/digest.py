"""The name of prepared data: a digest of everything that decides them."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from .. import storage
from ..errors import ExitCode, UserError
from .fitting import Options
from .tokenizer import Tokenizer
from .work import Job

ENGINE = 5
"""Raised whenever the same input gives other tokens or places: what older versions prepared is then made again."""

PLACES = ("path", "hub", "revision", "subset", "split", "folder", "token_env")
"""Settings of a source that say where its files are."""


def digests_of(job: Job) -> list[str]:
    """Return the SHA-256 of each file of a job."""
    return [_file_digest(file) for file in job.files]


def _file_digest(path: Path) -> str:
    try:
        return storage.sha256_file(path)
    except OSError as fault:
        text = "no such data file" if isinstance(fault, FileNotFoundError) else fault.strerror
        raise UserError(f"{os.path.normpath(path)}: {text}", code=ExitCode.DATA) from None


def basis_of(
    jobs: Sequence[Job],
    digests: Sequence[Sequence[str] | None],
    tokenizer: Tokenizer,
    options: Options,
    order: Mapping[str, Any] | Sequence[Any],
) -> dict[str, Any]:
    """Return everything that decides the result, as plain data. Where files lie does not count; their content does.

    `order` is whatever else chooses and arranges the samples. The digests of a source that is not here are None.
    """
    named = order if isinstance(order, Mapping) else dict(enumerate(order))
    given = tokenizer.chat_template
    return {
        "engine": ENGINE,
        "sources": [
            {
                "name": job.source.name,
                "format": type(job.source).__name__,
                "evaluation": job.evaluation,
                "settings": {name: repr(value) for name, value in _settings(job.source).items()},
                "files": None if found is None else list(found),
            }
            for job, found in zip(jobs, digests, strict=True)
        ],
        "template": None if given is None else _file_digest(given),
        "tokenizer": tokenizer.digest(),
        "options": {name: repr(value) for name, value in _settings(options).items()},
        "order": {str(name): repr(value) for name, value in named.items()},
    }


def key_from(basis: Mapping[str, Any]) -> str:
    """Return the digest of a basis, which names the folder with the result."""
    return hashlib.sha256(json.dumps(basis, sort_keys=True).encode()).hexdigest()[:32]


def key_of(
    jobs: Sequence[Job],
    digests: Sequence[Sequence[str]],
    tokenizer: Tokenizer,
    options: Options,
    order: Mapping[str, Any] | Sequence[Any],
) -> str:
    """Return the name of the folder for what these make; see `basis_of`."""
    return key_from(basis_of(jobs, digests, tokenizer, options, order))


def differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """Return in words what differs between two bases; sources that are not here are taken as equal."""
    found = []
    if there.get("engine") != here["engine"]:
        found.append("the version of tunec's engine")
    if there.get("template") != here["template"]:
        found.append("the chat template")
    elif there.get("tokenizer") != here["tokenizer"]:
        found.append("the tokenizer, or the chat template in its folder")
    for part in ("options", "order"):
        found += _differing(there.get(part, {}), here[part])
    theirs, ours = there.get("sources", []), here["sources"]
    if len(theirs) != len(ours):
        found.append(f"the number of sources ({len(theirs)} there, {len(ours)} here)")
    for other, source in zip(theirs, ours, strict=False):
        found += [
            f"{words} of source {source['name']}" for words in _source_differences(other, source)
        ]
    return found


def _source_differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    if (there["format"], there["evaluation"]) != (here["format"], here["evaluation"]):
        return ["the format or use"]
    found = _differing(there["settings"], here["settings"])
    if here["files"] is not None and there["files"] != here["files"]:
        found.append("the content of the files")
    return found


def _differing(there: Mapping[str, str], here: Mapping[str, str]) -> list[str]:
    names = sorted({*there, *here})
    return [
        f"`{name}` ({there.get(name, 'unknown')} there, {here.get(name, 'unknown')} here)"
        for name in names
        if there.get(name) != here.get(name)
    ]


def _settings(value: Any) -> dict[str, Any]:
    named = ((field.name, getattr(value, field.name)) for field in fields(value))
    return {name: setting for name, setting in named if name not in PLACES}
