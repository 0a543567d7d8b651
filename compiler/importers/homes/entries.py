"""What the tables of homes are made of."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any, Final

from attrs import frozen

from ..convert import Convert, same


class _Absent(Enum):
    ABSENT = "absent"


ABSENT: Final = _Absent.ABSENT


@frozen
class Home:
    """The place in the spec of another trainer's setting.

    A path such as `method[lora|oft].targets` names kinds where a section has several: the value goes there only
    when the section is of such a kind. `default` is what the other trainer uses when the setting is absent.
    `together` marks settings that decide something only with others, and so have a function of their own.
    """

    path: str
    convert: Convert = same
    default: Any = ABSENT
    together: bool = False
    how: str = ""

    def words(self) -> str:
        """Return how the value is converted, for people."""
        return self.how or ("" if self.convert is same else (self.convert.__doc__ or ""))


@frozen
class Replaced:
    """A setting without a counterpart, and the sentence that says what replaces it and why.

    Values among `harmless` lose nothing: they ask for what happens here anyway. `None` in it stands for any value.
    """

    text: str
    harmless: tuple[Any, ...] = ()

    def loses(self, raw: Any) -> bool:
        """Return whether leaving the value out changes the run."""
        if raw is None or None in self.harmless:
            return False
        word = str(raw).strip().lower()
        return word not in {str(value).lower() for value in self.harmless} | {"none", "null", ""}


Entry = tuple[Home, ...] | Replaced
Table = Mapping[str, Entry]


def at(
    *paths: str, convert: Convert = same, default: Any = ABSENT, how: str = ""
) -> tuple[Home, ...]:
    """Make the homes of a setting that goes to each of these places, all converted alike."""
    return tuple(Home(path, convert, default, how=how) for path in paths)


def decides(*paths: str, how: str) -> tuple[Home, ...]:
    """Make the homes of a setting that decides them together with others."""
    return tuple(Home(path, together=True, how=how) for path in paths)


def replaced(text: str, *harmless: Any) -> Replaced:
    """Make an entry for a setting that something else replaces."""
    return Replaced(text, harmless)


def anyway(text: str) -> Replaced:
    """Make an entry for a setting that changes nothing here, whatever its value."""
    return Replaced(text, (None,))
