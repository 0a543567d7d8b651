"""Hub models that were fetched before: where the hub's client keeps them on this machine."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from .files import read_text

REVISION = re.compile(r"[\w.-]+(?:/[\w.-]+)*")
MOST_BYTES = 1024


def cached_snapshot(
    repository: str, revision: str | None, cache_dir: Path | None, environ: Mapping[str, str]
) -> Path | None:
    """Return the folder with the files of a hub model as the client would find it offline, or None.

    The layout is that of huggingface_hub: `models--ORG--NAME/refs/REVISION` holds the commit of a branch or tag,
    `snapshots/COMMIT` its files.
    """
    wanted = revision or "main"
    if not REVISION.fullmatch(wanted) or ".." in wanted:
        return None
    folder = (cache_dir or _default(environ)) / f"models--{repository.replace('/', '--')}"
    try:
        commit = _commit(folder, wanted)
        snapshot = folder / "snapshots" / commit
        return snapshot if commit and snapshot.is_dir() else None
    except (OSError, ValueError):
        return None


def _commit(folder: Path, wanted: str) -> str:
    try:
        found = read_text(folder / "refs" / wanted, MOST_BYTES).strip()
    except FileNotFoundError:
        # A commit has no file of its own under `refs`.
        found = wanted
    return found if re.fullmatch(r"[\w.-]+", found) else ""


def _default(environ: Mapping[str, str]) -> Path:
    if environ.get("HF_HUB_CACHE"):
        return Path(environ["HF_HUB_CACHE"])
    if environ.get("HF_HOME"):
        return Path(environ["HF_HOME"]) / "hub"
    home = environ.get("XDG_CACHE_HOME") or str(
        Path(environ.get("HOME") or "~").expanduser() / ".cache"
    )
    return Path(home) / "huggingface" / "hub"
