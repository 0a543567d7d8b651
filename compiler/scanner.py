"""The place of every key and value in a TOML text, and the limits beyond TOML's own rules.

What is valid and what a value is, tomli decides. The scanner is iterative and linear, so no input can exhaust
the stack.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from functools import lru_cache
from math import isinf
from typing import Literal

import tomli
from attrs import Factory, define, frozen

from .diagnostics import Diagnostic, SpecPath, error

MAX_DEPTH = 64
MAX_KEY_PARTS = 16
MAX_FAULTS = 20


@frozen
class Span:
    """Half-open range of code points in a text."""

    start: int
    end: int


def position(text: str, offset: int) -> tuple[int, int]:
    """Return line and column of an offset, both from 1, the column in code points."""
    starts = _line_starts(text)
    line = bisect_right(starts, offset)
    return line, offset - starts[line - 1] + 1


@lru_cache(maxsize=4)
def _line_starts(text: str) -> list[int]:
    # Kept, because a large text with a finding on each line would be searched as often.
    return [0, *(match.end() for match in re.finditer("\n", text))]


KEY = re.compile(r"""[A-Za-z0-9_-]++|"(?:[^"\\\n]++|\\.)*+"|'[^'\n]*+'""")
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
class Statement:
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
class Scanner:
    """Finds the places in valid TOML; stops where the text is not TOML, without an error of its own."""

    text: str
    pos: int = 0
    keys: dict[SpecPath, Span] = Factory(dict)
    values: dict[SpecPath, Span] = Factory(dict)
    statements: list[Statement] = Factory(list)
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
        statement = Statement(self.pos, self.text.startswith("[", self.pos))
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
            end = self._skip(KEY)
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


def scan_text(text: str) -> Scanner:
    """Return what there is to find in a text, up to where it is no TOML."""
    scanner = Scanner(text)
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
