"""TOML text to data, with the place of every key and value.

tomli alone decides what is valid and what a value is; the scanner only finds places. Beyond TOML's own rules a
spec must keep a few limits (size, nesting, number range, TOML 1.0 syntax), each with a code of its own in `CODES`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import tomli
from attrs import field, frozen

from .diagnostics import Diagnostic, Level, SpecPath, error
from .files import MAX_BYTES, TOO_LARGE, UnreadableError, read_regular_file
from .scanner import MAX_DEPTH, MAX_FAULTS, MAX_KEY_PARTS, Span, position, scan_text
from .syntax_errors import syntax_faults

CODES: dict[str, str] = {
    "P101": (
        "The file starts with a byte order mark. TOML has none; it is skipped here, but other tools refuse "
        "the file. Save it as UTF-8 without BOM."
    ),
    "P102": "The file is not UTF-8, the only encoding of TOML. Convert it, for example with `iconv -t UTF-8`.",
    "P103": (
        "A carriage return stands alone. Lines end with a line feed, or with carriage return and line feed; "
        "a lone carriage return can hide text from a reader."
    ),
    "P104": "A key or table is defined twice. TOML allows each once; the first place is shown as well.",
    "P105": f"Lists, tables and keys are nested deeper than {MAX_DEPTH} levels. No spec needs that.",
    "P106": f"A dotted key has more than {MAX_KEY_PARTS} parts. No spec needs that.",
    "P107": "The file is larger than 1 MiB. A spec is a page or two: data belongs in files that the spec names.",
    "P108": "A whole number does not fit into 64 bits, so other readers of the spec would see another number.",
    "P109": "A number is infinite, no number, or too large for a double. No field has a use for these.",
    "P110": (
        "The text holds an invisible character, or one that changes the direction of writing. What a reader "
        "sees is then not what the program reads."
    ),
    "P111": "The file holds a NUL character, raw or as an escape. No path or name can contain one.",
    "P112": (
        "The syntax is new in TOML 1.1: a line break, a comment or a last comma inside `{ }`, the escapes "
        "`\\e` and `\\x`, or a time without seconds. A spec keeps to TOML 1.0, which every reader understands."
    ),
    "P113": "The file does not exist. A relative name counts from the folder in which the command runs.",
    "P114": "The name leads to a folder, a device, a pipe or a socket. A spec must be a regular file.",
    "P115": "The operating system refuses to read the file; its own words are in the message.",
    "P116": "The file was written to while it was being read. Run the command again.",
    "P120": "A line is neither a `key = value`, a `[table]` header nor a `# comment`.",
    "P121": "A text has no closing quote, so that it runs to the end of its line or file.",
    "P122": "A list `[ ]` or inline table `{ }` is not closed, or a comma is missing between its elements.",
    "P123": "What stands after `=` is no TOML value: text needs quotes, and only `true` and `false` are words.",
    "P124": "A text in double quotes holds an unknown escape. Use `'single quotes'` or write `\\\\` for a backslash.",
    "P125": "A control character stands in a text or comment. Write it as an escape, such as `\\u001B`.",
    "P126": "More text follows where the line should end. Each `key = value` needs a line of its own.",
    "P127": "A table header is not closed. It stands on one line: `[table]` or `[[table]]`.",
    "P130": (
        '`extends` is a list of file names at the top of the file, such as `extends = ["base.toml"]`. Each name '
        "counts from the folder of the file that says it. A later file wins over an earlier one, and the file "
        "itself over all: tables are merged, other values (lists too) replace, and a table of another `type` or "
        "`format` replaces as a whole. Paths inside any of the files count from the folder of the file that is "
        "compiled, not from that of the base."
    ),
    "P131": "A file named in `extends` cannot be read. Names count from the folder of the file that says them.",
    "P132": "A file extends itself, directly or through others, so that there is no first one to start from.",
    "P133": "`extends` leads through more than 32 levels or names more than 32 files. No spec needs that.",
    "P134": (
        "The files of a spec are larger than 1 MiB together. A spec is a page or two: data belongs in files that "
        "the spec names."
    ),
    "P140": (
        "`--set` takes a key and a TOML value: `--set method.rank=16`. Elements of lists are counted from 0: "
        "`--set data.sources[0].limit=100`. Where the field is text, quotes can be left out."
    ),
    "P141": (
        "`--set` names an element of a list that is not there. Elements are counted from 0; a flag can change "
        "them, not add to them. To replace a list, set it as a whole: `--set method.targets='[\"q_proj\"]'`."
    ),
    "P150": "The text given to `from_json` is not JSON, or not an object with the sections of a spec.",
}

EXTENDS = "extends"
"""The one key at the top of a file that is no section: the files it is laid over."""

_START = Span(0, 0)


@frozen
class Document:
    """A TOML document: its text, its plain data and the place of every key and value.

    The value span of a table is its header. `warnings` are findings about the text as such.
    """

    name: str
    path: Path | None
    text: str = field(repr=False)
    data: dict[str, Any] = field(repr=False)
    keys: Mapping[SpecPath, Span] = field(repr=False)
    values: Mapping[SpecPath, Span] = field(repr=False)
    warnings: tuple[Diagnostic, ...] = ()
    is_flag: bool = False
    """Whether the text is a flag of the command line: it has no lines to count."""

    def place(self, path: SpecPath, on_key: bool = False) -> tuple[Document, Span]:
        """Return where a value stands: in this document, or nowhere."""
        return self, self.locate(path, on_key)

    def locate(self, path: SpecPath, on_key: bool = False) -> Span:
        """Return the span of a value (or its key), else of the nearest table above it, else the start."""
        first, second = (self.keys, self.values) if on_key else (self.values, self.keys)
        for end in range(len(path), 0, -1):
            here = path[:end]
            found = first.get(here) or second.get(here)
            if found is not None:
                return found
            # Above the value asked for, the header says more than the name in it.
            first, second = self.values, self.keys
        return _START

    def position(self, offset: int) -> tuple[int, int]:
        """Return line and column of an offset, both from 1, the column in code points."""
        return position(self.text, offset)


class DocumentError(Exception):
    """The text is no readable TOML; `diagnostics` say why and where, by offsets into `text`."""

    def __init__(
        self, name: str, text: str, diagnostics: Iterable[Diagnostic], *, is_flag: bool = False
    ) -> None:
        self.name = name
        self.text = text
        self.is_flag = is_flag
        self.diagnostics = tuple(diagnostics)
        super().__init__(f"{name}: " + "; ".join(found.message for found in self.diagnostics))


def read_document(path: Path, display_name: str | None = None) -> Document:
    """Read and parse a file; raise `DocumentError` for whatever stands in the way."""
    name = os.fspath(path) if display_name is None else display_name
    try:
        content = read_regular_file(path)
    except UnreadableError as refusal:
        raise DocumentError(name, "", [error(refusal.code, str(refusal))]) from None
    return parse_document(content, name, path)


def parse_document(text: str | bytes, name: str, path: Path | None = None) -> Document:
    """Parse TOML; raise `DocumentError` when it is invalid or outside the limits."""
    if len(text) > MAX_BYTES:
        raise DocumentError(name, "", [error("P107", TOO_LARGE)])
    decoded = _decode(text, name)
    has_mark = decoded.startswith("\ufeff")
    decoded = decoded.removeprefix("\ufeff")
    scan = scan_text(decoded)
    stray = _stray_characters(decoded)
    if not scan.faults and not stray:
        try:
            data = tomli.loads(decoded)
        except (ValueError, RecursionError):
            pass  # `syntax_faults` finds it again, and the ones after it
        else:
            warnings = (*_mark_warning(has_mark), *_invisible_characters(decoded))
            return Document(name, path, decoded, data, scan.keys, scan.values, warnings)
    raise DocumentError(name, decoded, stray or syntax_faults(decoded))


def _decode(text: str | bytes, name: str) -> str:
    try:
        if isinstance(text, str):
            text.encode()  # a lone surrogate could not be printed or written
            return text
        return text.decode()
    except UnicodeDecodeError as fault:
        content = fault.object
        readable = content.decode(errors="replace")
        offset = len(content[: fault.start].decode())
        message = f"the file is not UTF-8: byte {fault.start} is 0x{content[fault.start]:02X}"
    except UnicodeEncodeError as fault:
        content = b""
        readable = fault.object.encode(errors="replace").decode()
        offset = fault.start
        message = "the text holds half of a surrogate pair"
    helps = (f"save the file as UTF-8{_guess_encoding(content)}",)
    span = (offset, offset + 1)
    raise DocumentError(name, readable, [error("P102", message, helps=helps, offsets=span)])


def _guess_encoding(content: bytes) -> str:
    if content.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in content[:64]:
        return "; it looks like UTF-16"
    return "; it looks like Latin-1 or Windows-1252" if content else ""


def _mark_warning(has_mark: bool) -> tuple[Diagnostic, ...]:
    if not has_mark:
        return ()
    message = "the file starts with a byte order mark"
    helps = ("save the file as UTF-8 without BOM",)
    return (_text_warning("P101", message, _START, helps=helps),)


def _text_warning(code: str, message: str, span: Span, **parts: tuple[str, ...]) -> Diagnostic:
    offsets = (span.start, span.end)
    return Diagnostic(code, Level.WARNING, message, offsets=offsets, **parts)  # type: ignore[arg-type]


# Joiners (U+200C, U+200D) are left out: emoji and several scripts need them.
_INVISIBLE = re.compile("[\u200b\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff]")


def _invisible_characters(text: str) -> list[Diagnostic]:
    found = []
    for match in _INVISIBLE.finditer(text):
        message = f"the text holds the invisible character U+{ord(match[0]):04X}"
        found.append(_text_warning("P110", message, Span(*match.span())))
        if len(found) == MAX_FAULTS:
            break
    return found


_STRAY = re.compile("\0|\r(?!\n)")


def _stray_characters(text: str) -> list[Diagnostic]:
    """Find what makes line numbers or words ambiguous, and with that every later finding."""
    match = _STRAY.search(text)
    if match is None:
        return []
    if match[0] == "\0":
        return [error("P111", "the file holds a NUL character", offsets=match.span())]
    helps = ("end lines with a line feed, or with carriage return and line feed",)
    message = "a carriage return stands without a line feed"
    return [error("P103", message, helps=helps, offsets=match.span())]
