"""What a person asked another trainer for: names and values from files and command lines."""

from __future__ import annotations

from typing import Any

from attrs import Factory, define, frozen

from .convert import UnfitError, as_bool, as_float, as_text, is_nothing


@frozen
class Given:
    """A value as it was written, and the file (or flag) that it comes from."""

    value: Any
    source: str
    written: str = ""
    """The name as it was written, where that is an earlier one."""


@define
class Settings:
    """Values by name; later ones win."""

    given: dict[str, Given] = Factory(dict)
    environment: dict[str, str] = Factory(dict)
    verb: str = "train"
    processes: int | None = None
    nodes: int = 1

    def add(self, values: dict[str, Any], source: str) -> None:
        """Take over the values of a file or command line."""
        for name, value in values.items():
            self.given.pop(name, None)
            self.given[name] = Given(value, source)

    def has(self, name: str) -> bool:
        """Return whether a value is written that says something."""
        return name in self.given and not is_nothing(self.given[name].value)

    def raw(self, name: str, default: Any = None) -> Any:
        """Return a value as it was written."""
        return self.given[name].value if self.has(name) else default

    def text(self, name: str, default: str = "") -> str:
        """Return a value as text; the default where it is none."""
        try:
            return as_text(self.raw(name, default))
        except UnfitError:
            return default

    def word(self, name: str, default: str = "") -> str:
        """Return a value as a word in lower case."""
        return self.text(name, default).strip().lower()

    def number(self, name: str, default: float | None = None) -> float | None:
        """Return a value as a number; the default where it is none."""
        try:
            return as_float(self.raw(name)) if self.has(name) else default
        except UnfitError:
            return default

    def flag(self, name: str, default: bool = False) -> bool:
        """Return a value as yes or no; the default where it is neither."""
        try:
            return as_bool(self.raw(name)) if self.has(name) else default
        except UnfitError:
            return default

    def switched(self, name: str) -> bool:
        """Return whether an environment variable is switched on."""
        return self.environment.get(name, "").strip().lower() in ("1", "true", "y", "yes", "on")
