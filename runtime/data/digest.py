"""The name of prepared data: a digest of everything that decides them."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from .. import storage
from ..errors import ExitCode, UserError
from .fitting import Options
from .tokenizer import Tokenizer
from .work import Job

ENGINE = 2
"""Raised whenever the same input gives other tokens: prepared data of older versions are then made again."""


def digests_of(job: Job) -> list[str]:
    """Return the SHA-256 of each file of a job."""
    return [_file_digest(file) for file in job.files]


def _file_digest(path: Path) -> str:
    try:
        return storage.sha256_file(path)
    except OSError as fault:
        text = "no such data file" if isinstance(fault, FileNotFoundError) else fault.strerror
        raise UserError(f"{os.path.normpath(path)}: {text}", code=ExitCode.DATA) from None


def key_of(
    jobs: Sequence[Job],
    digests: Sequence[Sequence[str]],
    tokenizer: Tokenizer,
    options: Options,
    order: Sequence[Any],
) -> str:
    """Digest everything that decides the result. Where files lie does not count; what is in them does.

    `order` is whatever else chooses and arranges the samples.
    """
    described = [
        [type(job.source).__name__, job.evaluation, _settings(job.source), list(found)]
        for job, found in zip(jobs, digests, strict=True)
    ]
    basis = [ENGINE, described, tokenizer.digest(), _settings(options), list(map(repr, order))]
    return hashlib.sha256(json.dumps(basis, sort_keys=True).encode()).hexdigest()[:32]


def _settings(value: Any) -> dict[str, Any]:
    named = ((field.name, getattr(value, field.name)) for field in fields(value))
    return {name: setting for name, setting in named if name != "path"}
