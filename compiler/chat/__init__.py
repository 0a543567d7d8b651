"""Named chat templates: from a name and the options of `[template]` to one self-contained Jinja text."""

from .build import ChatTemplate, build, describe, find, without_marks
from .library import LibraryTemplate, library

__all__ = [
    "ChatTemplate",
    "LibraryTemplate",
    "build",
    "describe",
    "find",
    "library",
    "without_marks",
]
