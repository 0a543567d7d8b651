"""TOML text to data, with the place of every key and value.

tomli alone decides what is valid and what a value is. The scanner in this module only finds places; it is
iterative and linear, so no input can exhaust the stack. Beyond TOML's own rules a spec must keep a few limits
(size, nesting, number range, TOML 1.0 syntax), each with a code of its own in `CODES`.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterable, Mapping
from math import isinf
from pathlib import Path
from typing import Any, Literal

import tomli
from attrs import Factory, define, evolve, field, frozen

from .diagnostics import Diagnostic, Label, Level, SpecPath, error

MAX_BYTES = 1 << 20
MAX_DEPTH = 64
MAX_KEY_PARTS = 16
MAX_FAULTS = 20
# Each further syntax error costs another pass over the text.
MAX_RECOVERY_CHARS = 1 << 16

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
}


@frozen
class Span:
    """Half-open range of code points in a text."""

    start: int
    end: int


_START = Span(0, 0)


def position(text: str, offset: int) -> tuple[int, int]:
    """Return line and column of an offset, both from 1, the column in code points."""
    line_start = text.rfind("\n", 0, offset) + 1
    return text.count("\n", 0, offset) + 1, offset - line_start + 1


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

    def __init__(self, name: str, text: str, diagnostics: Iterable[Diagnostic]) -> None:
        self.name = name
        self.text = text
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
        raise DocumentError(name, "", [error("P107", _TOO_LARGE)])
    decoded = _decode(text, name)
    has_mark = decoded.startswith("\ufeff")
    decoded = decoded.removeprefix("\ufeff")
    scan = _scan(decoded)
    stray = _stray_characters(decoded)
    if not scan.faults and not stray:
        try:
            data = tomli.loads(decoded)
        except (ValueError, RecursionError):
            pass  # `_faults` finds it again, and the ones after it
        else:
            warnings = (*_mark_warning(has_mark), *_invisible_characters(decoded))
            return Document(name, path, decoded, data, scan.keys, scan.values, warnings)
    raise DocumentError(name, decoded, stray or _faults(decoded))


# --- reading ---------------------------------------------------------------------------------------------


_TOO_LARGE = "the file is larger than 1 MiB"


class UnreadableError(Exception):
    """A file that cannot or must not be read; `code` is the diagnostic's."""

    def __init__(self, code: str, message: str) -> None:
        self.code = code
        super().__init__(message)


def read_regular_file(path: Path, limit: int = MAX_BYTES) -> bytes:
    """Return the bytes of a regular file of at most `limit` bytes; never blocks on a pipe or device."""
    # O_NONBLOCK lets the opening of a pipe return, so that its kind can be looked at.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)
    try:
        descriptor = os.open(path, flags | getattr(os, "O_BINARY", 0))
    except FileNotFoundError:
        raise UnreadableError("P113", "the file does not exist") from None
    except IsADirectoryError:
        raise UnreadableError("P114", _not_regular(stat.S_IFDIR)) from None
    except (OSError, ValueError) as refusal:  # ValueError: NUL in the name
        raise UnreadableError("P115", _cannot_read(refusal)) from None
    try:
        return _read_open_file(descriptor, limit)
    except OSError as refusal:
        raise UnreadableError("P115", _cannot_read(refusal)) from None
    finally:
        os.close(descriptor)


def _cannot_read(refusal: OSError | ValueError) -> str:
    reason = refusal.strerror if isinstance(refusal, OSError) else None
    return f"the file cannot be read: {(reason or str(refusal)).lower()}"


def _not_regular(mode: int) -> str:
    kinds = {
        stat.S_IFDIR: "a folder",
        stat.S_IFIFO: "a pipe",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
        stat.S_IFSOCK: "a socket",
    }
    return f"this is {kinds.get(stat.S_IFMT(mode), 'something special')}, not a regular file"


def _read_open_file(descriptor: int, limit: int) -> bytes:
    before = os.fstat(descriptor)
    if not stat.S_ISREG(before.st_mode):
        raise UnreadableError("P114", _not_regular(before.st_mode))
    if before.st_size > limit:
        raise UnreadableError("P107", _TOO_LARGE)
    chunks: list[bytes] = []
    wanted = limit + 1
    while wanted > 0 and (chunk := os.read(descriptor, wanted)):
        chunks.append(chunk)
        wanted -= len(chunk)
    after = os.fstat(descriptor)
    if (before.st_mtime_ns, before.st_size) != (after.st_mtime_ns, after.st_size):
        raise UnreadableError("P116", "the file changed while it was being read")
    if wanted <= 0:
        raise UnreadableError("P107", _TOO_LARGE)
    return b"".join(chunks)


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


# --- scanning --------------------------------------------------------------------------------------------


_KEY = re.compile(r"""[A-Za-z0-9_-]++|"(?:[^"\\\n]++|\\.)*+"|'[^'\n]*+'""")
_SCALAR = re.compile(
    r'''
      """ (?: [^"\\]++ | \\. | ""?(?!") )*+ """ "{0,2}
    | \'\'\' .*? \'\'\' '{0,2}
    | (?!""") " (?: [^"\\\n]++ | \\[^\n] )*+ "
    | (?!\'\'\') ' [^'\n]*+ '
    | \d{4}-\d\d-\d\d[ ]\d\d:[0-9:.]*+ (?: [Zz] | [+-]\d\d:\d\d )?
    | [A-Za-z0-9_.:+-]++
    ''',
    re.VERBOSE | re.DOTALL,
)
_BLANK = re.compile(r"[ \t]*+")
_INSIDE = re.compile(r"(?:[ \t\r\n]++|#[^\n]*+)*+")
_LINE_END = re.compile(r"[ \t]*+(?:#[^\n]*+)?+(?:\r?\n|\Z)")
_ESCAPE = re.compile(r"\\(u0000|U00000000|x00|.)", re.DOTALL)
_INTEGER = re.compile(r"[+-]?[0-9_]{18,}|0[xob][0-9A-Fa-f_]{16,}")
_FLOAT = re.compile(r"[+-]?(?:inf|nan|\d[\d_]*(?:\.[\d_]+)?(?:[eE][+-]?[\d_]+)?)")
_SHORT_TIME = re.compile(r"(?:\d{4}-\d\d-\d\d[Tt ])?\d\d:\d\d(?![:\d])")

_Kind = Literal["value", "dotted", "implied", "table", "array"]
# A new definition of the first kind contradicts an earlier one of these kinds.
_CLASHES: dict[_Kind, frozenset[_Kind]] = {
    "value": frozenset({"value", "dotted", "implied", "table", "array"}),
    "dotted": frozenset({"value", "table", "array"}),
    "implied": frozenset({"value"}),
    "table": frozenset({"value", "dotted", "table", "array"}),
    "array": frozenset({"value", "dotted", "implied", "table"}),
}


class _Stop(Exception):  # noqa: N818 - a signal: the text is no TOML here, and tomli will say why
    pass


@define
class _Statement:
    """A line such as `key = value` or `[table]`; `end` is 0 while it is not understood to its end."""

    start: int
    is_header: bool
    end: int = 0


@frozen
class _Clash:
    path: SpecPath
    first: Span
    second: Span


@define
class _Bracket:
    path: SpecPath
    start: int
    close: str
    count: int = 0


@define
class _Scanner:
    """Finds the places in valid TOML; stops where the text is not TOML, without an error of its own."""

    text: str
    pos: int = 0
    keys: dict[SpecPath, Span] = Factory(dict)
    values: dict[SpecPath, Span] = Factory(dict)
    statements: list[_Statement] = Factory(list)
    faults: list[tuple[Diagnostic, int]] = Factory(list)
    """Broken limits, each with the index of its statement."""
    clashes: dict[int, _Clash] = Factory(dict)
    """First contradiction of a statement, by its index."""
    brackets: list[_Bracket] = Factory(list)
    """What is open at `pos`."""
    kinds: dict[SpecPath, _Kind] = Factory(dict)
    lengths: dict[SpecPath, int] = Factory(dict)
    """Number of elements of each array of tables."""
    table: SpecPath = ()

    def run(self) -> None:
        try:
            while self._skip(_INSIDE) < len(self.text):
                self._scan_statement()
        except _Stop:
            return

    def _skip(self, pattern: re.Pattern[str]) -> int:
        match = pattern.match(self.text, self.pos)
        if match is None:
            raise _Stop
        self.pos = match.end()
        return self.pos

    def _take(self, expected: str) -> bool:
        found = self.text.startswith(expected, self.pos)
        if found:
            self.pos += len(expected)
        return found

    def _expect(self, expected: str) -> None:
        if not self._take(expected):
            raise _Stop

    def _fault(self, code: str, message: str, start: int, end: int, *helps: str) -> None:
        found = error(code, message, helps=helps, offsets=(start, end))
        entry = (found, len(self.statements) - 1)
        if entry not in self.faults[-1:]:  # each line break of one inline table says the same
            self.faults.append(entry)
        if len(self.faults) >= MAX_FAULTS:
            raise _Stop

    def _scan_statement(self) -> None:
        statement = _Statement(self.pos, self.text.startswith("[", self.pos))
        self.statements.append(statement)
        if statement.is_header:
            self._scan_header()
        else:
            self._scan_values(self._scan_assignment(self.table))
        self._skip(_LINE_END)
        statement.end = self.pos

    def _scan_header(self) -> None:
        start = self.pos
        is_array = self._take("[[")
        if not is_array:
            self._expect("[")
        self._skip(_BLANK)
        parts = self._scan_key()
        self._expect("]]" if is_array else "]")
        path: SpecPath = ()
        for name, span in parts[:-1]:
            path = self._define((*path, name), span, "implied")
            if path in self.lengths:
                path = (*path, self.lengths[path] - 1)
        name, span = parts[-1]
        path = self._define((*path, name), span, "array" if is_array else "table")
        self._open_table(path, span, Span(start, self.pos), is_array)

    def _open_table(self, path: SpecPath, key: Span, header: Span, is_array: bool) -> None:
        if is_array:
            index = self.lengths.get(path, 0)
            self.lengths[path] = index + 1
            self.values.setdefault(path, header)
            path = (*path, index)
        self.keys[path] = key
        self.values[path] = header
        self.table = path

    def _scan_key(self) -> list[tuple[str, Span]]:
        parts: list[tuple[str, Span]] = []
        while True:
            start = self.pos
            end = self._skip(_KEY)
            parts.append((_key_text(self.text[start:end]), Span(start, end)))
            if len(parts) > MAX_KEY_PARTS:
                message = f"the key has more than {MAX_KEY_PARTS} parts"
                self._fault("P106", message, parts[0][1].start, end)
                raise _Stop
            self._skip(_BLANK)
            if not self._take("."):
                return parts
            self._skip(_BLANK)

    def _scan_assignment(self, base: SpecPath) -> SpecPath:
        """Scan `key =` and return the path of the value that follows."""
        parts = self._scan_key()
        self._expect("=")
        self._skip(_BLANK)
        path = base
        for name, span in parts[:-1]:
            path = self._define((*path, name), span, "dotted")
        name, span = parts[-1]
        return self._define((*path, name), span, "value")

    def _define(self, path: SpecPath, span: Span, kind: _Kind) -> SpecPath:
        known = self.kinds.get(path)
        if known in _CLASHES[kind]:
            clash = _Clash(path, self.keys[path], span)
            self.clashes.setdefault(len(self.statements) - 1, clash)
        elif known is None or known == "implied":
            self.kinds[path] = kind
            self.keys[path] = span
        return path

    def _scan_values(self, path: SpecPath) -> None:
        """Scan a value and, when it is a bracket, all values inside it."""
        next_path: SpecPath | None = path
        while next_path is not None:
            is_bracket = self._open_bracket(next_path)
            if not is_bracket:
                self._scan_scalar(next_path)
            next_path = self._next_path(after_value=not is_bracket)

    def _open_bracket(self, path: SpecPath) -> bool:
        close = {"[": "]", "{": "}"}.get(self.text[self.pos : self.pos + 1])
        if max(len(self.brackets) + (close is not None), len(path)) > MAX_DEPTH:
            message = f"values are nested deeper than {MAX_DEPTH} levels"
            self._fault("P105", message, self.pos, self.pos + 1)
            raise _Stop
        if close is None:
            return False
        self.brackets.append(_Bracket(path, self.pos, close))
        self.pos += 1
        return True

    def _next_path(self, after_value: bool) -> SpecPath | None:
        """Close finished brackets; return the path of the next value in the innermost open one."""
        while self.brackets:
            bracket = self.brackets[-1]
            self._skip_inside(bracket)
            comma = self.pos
            has_comma = after_value and self._take(",")
            if has_comma:
                self._skip_inside(bracket)
            if self._take(bracket.close):
                if has_comma and bracket.close == "}":
                    self._newer(
                        "a comma after the last value of an inline table",
                        comma,
                        comma + 1,
                        "leave out the comma",
                    )
                self.values[bracket.path] = Span(bracket.start, self.pos)
                self.brackets.pop()
                after_value = True
                continue
            if after_value and not has_comma:
                raise _Stop
            return self._element(bracket)
        return None

    def _skip_inside(self, bracket: _Bracket) -> None:
        start = self.pos
        end = self._skip(_INSIDE)
        skipped = self.text[start:end]
        if bracket.close == "}" and ("\n" in skipped or "#" in skipped):
            self._newer(
                "a line break or comment inside an inline table",
                bracket.start,
                bracket.start + 1,
                "write it on one line, or as a `[table]` of its own",
            )

    def _element(self, bracket: _Bracket) -> SpecPath:
        if bracket.close == "}":
            return self._scan_assignment(bracket.path)
        path = (*bracket.path, bracket.count)
        bracket.count += 1
        return path

    def _newer(self, what: str, start: int, end: int, help_: str) -> None:
        self._fault("P112", f"{what} needs TOML 1.1, a spec is TOML 1.0", start, end, help_)

    def _scan_scalar(self, path: SpecPath) -> None:
        start = self.pos
        end = self._skip(_SCALAR)
        self.values[path] = Span(start, end)
        raw = self.text[start:end]
        if raw.startswith('"'):
            self._check_escapes(raw, start)
        elif not raw.startswith("'"):
            self._check_bare(raw, start, end)

    def _check_escapes(self, raw: str, start: int) -> None:
        for match in _ESCAPE.finditer(raw):
            place = (start + match.start(), start + match.end())
            if match[1] in ("u0000", "U00000000", "x00"):
                self._fault("P111", "the text holds a NUL character", *place)
            elif match[1] in ("e", "x"):
                self._newer(f"the escape `{match[0]}`", *place, "write `\\u` and four digits")

    def _check_bare(self, raw: str, start: int, end: int) -> None:
        if _SHORT_TIME.match(raw):
            self._newer(
                "a time without seconds",
                start,
                end,
                f"write `{raw[:5]}:00`" if len(raw) == 5 else "add the seconds",
            )
        elif _INTEGER.fullmatch(raw):
            if not _fits_int64(raw):
                self._fault("P108", "the whole number does not fit into 64 bits", start, end)
        elif _FLOAT.fullmatch(raw) and not _is_finite(raw):
            message = f"`{raw}` is no finite number" if len(raw) < 40 else "the number is too large"
            self._fault("P109", message, start, end)


def _scan(text: str) -> _Scanner:
    scanner = _Scanner(text)
    scanner.run()
    return scanner


def _key_text(raw: str) -> str:
    if raw.startswith("'") or (raw.startswith('"') and "\\" not in raw):
        return raw[1:-1]
    if not raw.startswith('"'):
        return raw
    try:
        return str(tomli.loads(f"x = {raw}")["x"])
    except tomli.TOMLDecodeError:
        raise _Stop from None


def _fits_int64(raw: str) -> bool:
    digits = raw.replace("_", "")
    if digits[:2] in ("0x", "0o", "0b"):
        try:
            return int(digits, 0) < 1 << 63
        except ValueError:
            return True  # such as 0b2: not a number at all, which tomli reports
    if len(digits) > 20:  # int() refuses thousands of digits
        return False
    try:
        return -(1 << 63) <= int(digits) < 1 << 63
    except ValueError:
        return True


def _is_finite(raw: str) -> bool:
    return not raw.endswith(("inf", "nan")) and not isinf(float(raw.replace("_", "") or "0"))


# --- wording syntax errors -------------------------------------------------------------------------------


def _faults(text: str) -> list[Diagnostic]:
    """Find all faults: each faulty statement is blanked out, and the rest is looked at again."""
    found: list[Diagnostic] = []
    rest = text
    while len(found) < MAX_FAULTS:
        scan = _scan(rest)
        places = [index for _, index in scan.faults]
        found += [fault for fault, _ in scan.faults]
        if not scan.faults:
            fault = _syntax_fault(rest, scan)
            if fault is None:
                break
            found.append(fault)
            places = [_statement_index(scan, (fault.offsets or (0, 0))[1])]
        if len(found) >= MAX_FAULTS or len(text) > MAX_RECOVERY_CHARS:
            break
        shorter = rest
        for index in places:
            shorter = _without_statement(shorter, scan, index, found[-1])
        if shorter == rest:
            break
        rest = shorter
    return found[:MAX_FAULTS]


def _statement_index(scan: _Scanner, offset: int) -> int:
    starts_after = (i for i, statement in enumerate(scan.statements) if statement.start > offset)
    return max(next(starts_after, len(scan.statements)) - 1, 0)


def _without_statement(text: str, scan: _Scanner, index: int, fault: Diagnostic) -> str:
    statement = scan.statements[index]
    end = statement.end or _resume(text, statement.start, (fault.offsets or (0, 0))[0])
    if statement.is_header:
        # The keys below a lost header would land in the table before it.
        following = re.compile(r"^[ \t]*\[", re.MULTILINE).search(text, end)
        end = following.start() if following else len(text)
    gap = re.sub(r"[^\r\n]", " ", text[statement.start : end])
    return text[: statement.start] + gap + text[end:]


def _resume(text: str, start: int, fault: int) -> int:
    """Return where to go on after a broken statement: after the line of the fault, or before it."""
    line_start = text.rfind("\n", 0, fault) + 1
    if line_start > start and not text[line_start:fault].strip():
        return line_start
    line_end = text.find("\n", fault)
    return len(text) if line_end < 0 else line_end


def _syntax_fault(text: str, scan: _Scanner) -> Diagnostic | None:
    try:
        tomli.loads(text)
    except tomli.TOMLDecodeError as fault:
        return _explain(text, scan, fault.msg, _original_offset(text, fault.pos))
    except (ValueError, RecursionError) as fault:
        # Kept for a later tomli that refuses more than this one.
        return error("P120", f"the file is no valid TOML: {fault}", offsets=(0, 0))
    return None


def _original_offset(text: str, normalized: int) -> int:
    """Undo tomli's replacement of CRLF, which counts as one character there."""
    if "\r\n" not in text:
        return normalized
    line, column = position(text.replace("\r\n", "\n"), normalized)
    start = 0
    for _ in range(line - 1):
        start = text.index("\n", start) + 1
    return start + column - 1


@frozen
class _Wrong:
    """A syntax error of tomli: its message and its place."""

    text: str
    scan: _Scanner
    message: str
    offset: int

    @property
    def token(self) -> str:
        """What stands at the place, up to a blank or a bracket."""
        found = re.compile(r"[^\s#,\]}]+").match(self.text, self.offset)
        return found[0] if found else ""

    def fault(self, code: str, message: str, *helps: str, label: str = "") -> Diagnostic:
        end = self.offset + max(len(self.token), 1)
        return error(code, message, label=label, helps=helps, offsets=(self.offset, end))


def _explain(text: str, scan: _Scanner, message: str, offset: int) -> Diagnostic:
    wrong = _Wrong(text, scan, message, offset)
    for start, explain in _EXPLANATIONS:
        if message.startswith(start):
            return explain(wrong)
    return wrong.fault("P120", f"the file is no valid TOML: {message[:1].lower()}{message[1:]}")


def _explain_duplicate(wrong: _Wrong) -> Diagnostic:
    clash = wrong.scan.clashes.get(_statement_index(wrong.scan, wrong.offset))
    if clash is None:
        return wrong.fault("P104", "the key or table is already defined")
    name = ".".join(str(part) for part in clash.path if isinstance(part, str))
    first = Label((), "first defined here", offsets=(clash.first.start, clash.first.end))
    offsets = (clash.second.start, clash.second.end)
    return error(
        "P104",
        f"`{name}` is defined twice",
        label="defined again",
        labels=(first,),
        offsets=offsets,
    )


_WORDS = {
    "yes": "true",
    "on": "true",
    "no": "false",
    "off": "false",
    "true": "true",
    "false": "false",
}


def _explain_value(wrong: _Wrong) -> Diagnostic:
    token = wrong.token
    if not token:
        return wrong.fault("P123", "there is no value here", label="expected a value")
    message = f"`{_short(token)}` is no TOML value"
    if token.lower() in _WORDS:
        return wrong.fault("P123", message, f"write `{_WORDS[token.lower()]}`")
    if token.lower() in ("none", "null", "nil", "~"):
        return wrong.fault("P123", message, "leave the key out: its default applies then")
    if re.fullmatch(r"[+-]?\.\d+", token):
        return wrong.fault("P123", message, f"write `{token.replace('.', '0.', 1)}`")
    line = re.compile(r"[^\n\r#]*").match(wrong.text, wrong.offset)
    words = _short(line[0].strip() if line else token)
    quote = "'" if "\\" in words or '"' in words else '"'
    return wrong.fault("P123", message, f"put text in quotes: `{quote}{words}{quote}`")


def _short(text: str) -> str:
    return text if len(text) <= 40 else text[:37] + "..."


def _explain_open_bracket(wrong: _Wrong) -> Diagnostic:
    close = "]" if "array" in wrong.message else "}"
    kind = "list" if close == "]" else "inline table"
    inner = next((b for b in reversed(wrong.scan.brackets) if b.close == close), None)
    found = wrong.fault("P122", f"the {kind} is not closed", label=f"expected `,` or `{close}`")
    if inner is None:
        return found
    opened = Label((), "opened here", offsets=(inner.start, inner.start + 1))
    return evolve(found, labels=(opened,))


def _explain_character(wrong: _Wrong) -> Diagnostic:
    character = wrong.text[wrong.offset : wrong.offset + 1]
    if character in ("\r", "\n", ""):
        return _explain_open_text(wrong)
    help_ = f"write it as `\\u{ord(character):04X}` in double quotes"
    message = f"the control character U+{ord(character):04X} is not allowed here"
    return error("P125", message, helps=(help_,), offsets=(wrong.offset, wrong.offset + 1))


def _explain_open_text(wrong: _Wrong) -> Diagnostic:
    statement = wrong.scan.statements[_statement_index(wrong.scan, wrong.offset)]
    # The scanner stops before the text that it could not close.
    start = max(min(wrong.scan.pos, wrong.offset), statement.start)
    quote = wrong.text[start : start + 1]
    if quote not in ("'", '"'):
        start, quote = wrong.offset, '"'
    quote *= 3 if wrong.text.startswith(quote * 3, start) else 1
    end = max(wrong.offset, start + 1)
    return error(
        "P121",
        "the text is not closed",
        label=f"expected a closing `{quote}`",
        offsets=(start, end),
    )


def _explain_escape(wrong: _Wrong) -> Diagnostic:
    start = max(wrong.text.rfind("\\", 0, wrong.offset), 0)
    end = max(wrong.offset, start + 2)
    escape = wrong.text[start : start + 2].strip()
    helps = ("for a plain backslash write `\\\\`, or put the text in `'single quotes'`",)
    if escape in ("\\u", "\\U"):
        message = f"`{wrong.text[start:end]}` is no character"
        helps = ("write `\\u` with four or `\\U` with eight hexadecimal digits of a character",)
        return error("P124", message, helps=helps, offsets=(start, end))
    return error("P124", f"`{escape}` is no escape of TOML", helps=helps, offsets=(start, end))


def _explain_rest(wrong: _Wrong) -> Diagnostic:
    if wrong.text[wrong.offset : wrong.offset + 1] < " ":
        return _explain_character(wrong)
    before = wrong.text[wrong.text.rfind("\n", 0, wrong.offset) + 1 : wrong.offset]
    if re.search(r"=\s*[+-]?0$", before) and wrong.token[:1].isdigit():
        return wrong.fault("P123", "a number starts with 0", "leave out the leading zeros")
    if re.search(r"[0-9]$", before) and wrong.token.startswith((".", "_", "e", "E")):
        return wrong.fault("P123", "the number is not complete")
    has_comma = wrong.text.startswith(",", wrong.offset)
    help_ = "leave out the comma" if has_comma else "write each `key = value` on a line of its own"
    return wrong.fault("P126", "expected the end of the line", help_)


def _explain_assignment(wrong: _Wrong) -> Diagnostic:
    has_colon = wrong.text.startswith(":", wrong.offset)
    helps = ("write `=` instead of `:`",) if has_colon else ()
    return wrong.fault("P120", "expected `=` after the key", *helps, label="expected `=`")


def _explain_header(wrong: _Wrong) -> Diagnostic:
    close = "]]" if "']]'" in wrong.message else "]"
    return wrong.fault("P127", "the table header is not closed", label=f"expected `{close}`")


def _explain_statement(wrong: _Wrong) -> Diagnostic:
    helps = ("write `key = value`, `[table]` or `# comment`",)
    return wrong.fault("P120", "this line is no TOML", *helps)


def _explain_key(wrong: _Wrong) -> Diagnostic:
    helps = ("a key holds letters, digits, `-` and `_`; put any other key in quotes",)
    return wrong.fault("P120", "expected a key", *helps)


# tomli's messages by their start; the first that fits explains the error.
_EXPLANATIONS: tuple[tuple[str, Callable[[_Wrong], Diagnostic]], ...] = (
    ("Cannot declare", _explain_duplicate),
    ("Cannot overwrite", _explain_duplicate),
    ("Cannot redefine", _explain_duplicate),
    ("Cannot mutate", _explain_duplicate),
    ("Duplicate inline table key", _explain_duplicate),
    ("Invalid value", _explain_value),
    ("Invalid date or datetime", _explain_value),
    ("Unclosed", _explain_open_bracket),
    ("Illegal character", _explain_character),
    ("Found invalid character", _explain_character),
    ("Unterminated string", _explain_open_text),
    ("Expected \"'", _explain_open_text),
    ("Unescaped", _explain_escape),
    ("Invalid hex value", _explain_escape),
    ("Escaped character", _explain_escape),
    ("Expected newline", _explain_rest),
    ("Expected '=", _explain_assignment),
    ("Expected ']", _explain_header),
    ("Invalid statement", _explain_statement),
    ("Invalid initial character", _explain_key),
)
