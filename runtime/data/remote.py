"""Where the files of a source are: on this machine, behind a URL, or on a hub. What is elsewhere is fetched first."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

from ..errors import ExitCode, UserError
from .files import files_of
from .remote_hubs import COMMIT, HubSet, fetch_hub
from .remote_urls import fetch_url, is_url, shown
from .store import Found, remember, remembered

OFFLINE = "HF_HUB_OFFLINE"
"""The variable of the hub's client; here it holds for URLs, too."""


class Place(Protocol):
    """What tells where a source is."""

    @property
    def path(self) -> Path | str:
        """A local path, a URL as text, or an id on `hub`."""

    @property
    def hub(self) -> str | None:
        """The hub that has it."""

    @property
    def revision(self) -> str | None:
        """A branch, tag or commit there."""

    @property
    def subset(self) -> str | None:
        """A configuration there."""

    @property
    def split(self) -> str:
        """The split."""

    @property
    def folder(self) -> str | None:
        """A folder there."""

    @property
    def token_env(self) -> str | None:
        """The variable with a token."""


def is_remote(source: Place) -> bool:
    """Tell whether a source is to be fetched."""
    return source.hub is not None or is_url(source.path)


def named(source: Place) -> str:
    """Return what a source is called in messages."""
    path = str(source.path)
    return shown(path) if is_remote(source) else os.path.normpath(path)


def find(source: Place) -> Found:
    """Return the files of a source on this machine; those from elsewhere are fetched unless they are here already.

    Raises:
        UserError: (DATA) there are none, or they cannot be had; (ENVIRONMENT) a package or a token is missing.
    """
    path = str(source.path)
    if not is_remote(source):
        return Found(tuple(files_of(Path(path), source.split)))
    if source.hub is None and path.startswith("file://"):
        return Found(tuple(files_of(Path(path.removeprefix("file://")), source.split)))
    key = (source.hub, path, source.revision, source.subset, source.split, source.folder)
    known = remembered(key)
    if known is not None and (_is_offline() or _is_fixed(source)):
        return known
    if _is_offline():
        raise UserError(
            f"{shown(path)}: {OFFLINE} is set, and this was not fetched before",
            help=f"start once without {OFFLINE}, on a machine that reaches it",
            code=ExitCode.DATA,
        )
    if source.hub is None:
        found = fetch_url(path)
    else:
        found = fetch_hub(source.hub, _hub_set(source), known)
    remember(key, found)
    return found


def local_files(source: Place) -> list[Path]:
    """Return the files of a source on this machine, as `find` does."""
    return list(find(source).files)


def _hub_set(source: Place) -> HubSet:
    return HubSet(
        str(source.path),
        source.revision,
        source.subset,
        source.split,
        source.folder,
        source.token_env,
    )


def _is_offline() -> bool:
    return os.environ.get(OFFLINE, "").upper() in ("1", "ON", "YES", "TRUE")


def _is_fixed(source: Place) -> bool:
    """A commit never changes: what was fetched of it needs no question."""
    return source.hub is not None and COMMIT.fullmatch(source.revision or "") is not None
