"""The compiler: a typed TOML spec in, readable programs out. Never imports torch or the runtime.

The names below are its interface for programs; see `api`. They are loaded at first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .api import (
        ApplyError,
        Diagnostic,
        Spec,
        SpecError,
        check,
        compile_spec,
        from_json,
        from_toml,
        to_json,
        to_toml,
    )

__all__ = [
    "ApplyError",
    "Diagnostic",
    "Spec",
    "SpecError",
    "check",
    "compile_spec",
    "from_json",
    "from_toml",
    "to_json",
    "to_toml",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import api

    return getattr(api, name)
