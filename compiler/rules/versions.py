"""Packages that the spec needs beyond tunec's own, as far as they can be seen here."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ..diagnostics import Diagnostic, warning
from ..facts import Facts
from ..spec import Spec
from .rule import Rule


def check_installed(spec: Spec, facts: Facts) -> Iterator[Diagnostic]:
    """A package that the run needs is not installed here, or too old.

    Optional libraries come with the settings that use them. The run may well start on another machine that has them,
    so this is a warning.

    Fails:
    ```toml
    [optimizer]
    type = "transformers"
    name = "stable_adamw"
    [launch]
    device = "gpu"
    ```
    Passes:
    ```toml
    [optimizer]
    type = "adamw"
    ```
    """
    for need in facts.needs:
        version = facts.versions.get(need.package)
        least = "" if need.least is None else f">={need.least}"
        if version is None:
            message = f"the package `{need.package}` is not installed here"
        elif need.least is not None and _is_older(version, need.least):
            message = f"`{need.package}` {version} is installed here, {need.least} is needed"
        else:
            continue
        yield warning(
            "V901",
            message,
            need.path,
            label="needs it",
            helps=(f'install it where the run starts: `pip install "{need.package}{least}"`',),
        )


def _is_older(version: str, least: str) -> bool:
    return _release(version) < _release(least)


def _release(version: str) -> tuple[int, ...]:
    """Return the numbers a version starts with; anything after them decides nothing here."""
    found = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(part) for part in found[0].split(".")) if found else ()


RULES = (Rule("V901", "package missing", factual=check_installed),)
