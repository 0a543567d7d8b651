"""Named chat templates: from a name and the options of `[template]` to one self-contained Jinja text."""

from .build import ChatTemplate, build, describe, find, thought_marks, without_marks
from .library import LibraryTemplate, library
from .own import SWITCHES, around

__all__ = [
    "SWITCHES",
    "ChatTemplate",
    "LibraryTemplate",
    "around",
    "build",
    "describe",
    "find",
    "library",
    "thought_marks",
    "without_marks",
]
