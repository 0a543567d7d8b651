"""`tunec check --fix`: makes the fixes of the findings in the text of a spec, and never makes it worse.

Every fix is made alone, in the text that the one before left. A fix after which the spec has more errors than
before is taken back, so that an edit which was not meant cannot stay.
"""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from difflib import unified_diff
from pathlib import Path

from .diagnostics import Add, Diagnostic, Fix, Level, Move, Rename, SpecPath
from .document import Document, DocumentError, parse_document
from .edits import edited, edits_of
from .files import UnreadableError, read_regular_file

Find = Callable[[Document], Iterable[Diagnostic]]
"""All findings about a document."""

_MARK = "\ufeff".encode()
_MAX_ROUNDS = 20


class StaleError(Exception):
    """The file is not the one that was looked at."""


def with_edits(diagnostics: Iterable[Diagnostic], document: Document) -> list[Diagnostic]:
    """Return the findings that `fix_text` would try to mend."""
    return [
        item
        for item in _undisputed(diagnostics)
        if item.fix is not None and edits_of(item.fix, document)
    ]


def fix_text(document: Document, find: Find) -> str:
    """Return the text of the document with all fixes made that leave no more errors than there were."""
    refused: list[Fix] = []
    for _ in range(_MAX_ROUNDS):
        found = list(find(document))
        mended = _mended(document, found, find, refused)
        if mended.text == document.text:
            break
        document = mended
    return document.text


def _mended(
    document: Document, found: list[Diagnostic], find: Find, refused: list[Fix]
) -> Document:
    """Make the fixes of one look at the document; those that make it worse are added to `refused`."""
    fixes = [fix for fix in _by_place(_undisputed(found), document) if fix not in refused]
    together = document
    for fix in fixes:
        together = _with_fix(together, fix)
    allowed = _errors(found)
    # Most of the time all is well, and one look at the result tells.
    if together.text == document.text or _errors(find(together)) <= allowed:
        return together
    for fix in fixes:
        candidate = _with_fix(document, fix)
        errors = _errors(find(candidate))
        if errors <= allowed:
            document, allowed = candidate, errors
        else:
            refused.append(fix)
    return document


def _by_place(diagnostics: Iterable[Diagnostic], document: Document) -> list[Fix]:
    """Return the fixes in the order of the text, so that what moves to one section keeps its order."""
    fixes = [item.fix for item in diagnostics if item.fix is not None]
    return sorted(fixes, key=lambda fix: document.locate(fix.path, on_key=True).start)


def _with_fix(document: Document, fix: Fix) -> Document:
    text = edited(document.text, edits_of(fix, document))
    try:
        return parse_document(text, document.name, document.path)
    except DocumentError:
        return document


def _errors(diagnostics: Iterable[Diagnostic]) -> int:
    return sum(item.level is Level.ERROR for item in diagnostics)


def _undisputed(diagnostics: Iterable[Diagnostic]) -> list[Diagnostic]:
    """Leave out fixes that want the same place: two keys cannot both have been meant for it."""
    found = [item for item in diagnostics if item.fix is not None]
    wanted = Counter(target for item in found if (target := _target(item.fix)) is not None)
    return [item for item in found if wanted[_target(item.fix) or ()] < 2]


def _target(fix: Fix | None) -> SpecPath | None:
    if isinstance(fix, Rename):
        return (*fix.path[:-1], fix.to)
    if isinstance(fix, Move):
        return fix.to
    return fix.path if isinstance(fix, Add) else None


def diff(before: str, after: str, name: str) -> str:
    """Return the change as a unified diff, which `patch` understands."""
    changes = unified_diff(_lines(before), _lines(after), name, name)
    return "".join(_terminated(changes))


def _lines(text: str) -> list[str]:
    # `splitlines` would also split at characters that are no line breaks for `patch` and TOML.
    lines = [f"{line}\n" for line in text.split("\n")]
    return [*lines[:-1], *([lines[-1][:-1]] if lines[-1] != "\n" else [])]


def _terminated(lines: Iterable[str]) -> Iterator[str]:
    for line in lines:
        yield line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n"


def write_text(path: Path, before: str, after: str) -> None:
    """Put the new text in the place of the old one: at once, with the same mode, through links to the file.

    Raises:
        StaleError: the file does not hold the old text any more.
        OSError: the folder or the file cannot be written.
    """
    target = Path(os.path.realpath(path))
    try:
        content = read_regular_file(target)
    except UnreadableError as fault:
        raise StaleError(str(fault)) from None
    mark = _MARK if content.startswith(_MARK) else b""
    if content != mark + before.encode():
        raise StaleError("the file changed meanwhile")
    _replace(target, mark + after.encode())


def _replace(target: Path, content: bytes) -> None:
    descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, target.stat().st_mode & 0o7777)
        os.replace(name, target)
    except BaseException:
        os.unlink(name)
        raise
