"""Credentials: a spec names the environment variable that holds one, and never holds one itself."""

from __future__ import annotations

import os

from .errors import ExitCode, UserError


def token_of(name: str, setting: str) -> str:
    """Return the value of the environment variable `name`, which the spec's `setting` names.

    Raises:
        UserError: (ENVIRONMENT) it is not set.
    """
    if name not in os.environ:
        raise UserError(
            f"the environment variable `{name}`, named by `{setting}`, is not set",
            help=f"export {name}=... before starting",
            code=ExitCode.ENVIRONMENT,
        )
    return os.environ[name]
