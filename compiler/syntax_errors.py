"""Syntax errors in words: what tomli found, explained with what the scanner knows of the place."""

from __future__ import annotations

import re
from collections.abc import Callable

import tomli
from attrs import evolve, frozen

from .diagnostics import Diagnostic, Label, error
from .letters import odd_letters
from .scanner import MAX_FAULTS, Scanner, Statement, position, scan_text

# Each further syntax error costs another pass over the text.
MAX_RECOVERY_CHARS = 1 << 16


def syntax_faults(text: str) -> list[Diagnostic]:
    """Find all faults: each faulty statement is blanked out, and the rest is looked at again."""
    found: list[Diagnostic] = []
    rest = text
    while len(found) < MAX_FAULTS:
        scan, shorter = scan_text(rest), rest
        places = [index for _, index in scan.faults]
        found += [fault for fault, _ in scan.faults]
        if not scan.faults:
            fault = _syntax_fault(rest, scan)
            if fault is None:
                break
            found.append(fault)
            start, end = fault.offsets or (0, 0)
            places = [_statement_index(scan, end)]
            if not scan.statements or _is_outside(scan.statements[places[0]], start, rest):
                shorter, places = _without_line(rest, start), []
        if len(found) >= MAX_FAULTS or len(text) > MAX_RECOVERY_CHARS:
            break
        for index in places:
            shorter = _without_statement(shorter, scan, index, found[-1])
        if shorter == rest:
            break
        rest = shorter
    return found[:MAX_FAULTS]


def _statement_index(scan: Scanner, offset: int) -> int:
    starts_after = (i for i, statement in enumerate(scan.statements) if statement.start > offset)
    return max(next(starts_after, len(scan.statements)) - 1, 0)


def _without_statement(text: str, scan: Scanner, index: int, fault: Diagnostic) -> str:
    statement = scan.statements[index]
    end = statement.end or _resume(text, statement.start, (fault.offsets or (0, 0))[0])
    if statement.is_header:
        # The keys below a lost header would land in the table before it.
        following = re.compile(r"^[ \t]*\[", re.MULTILINE).search(text, end)
        end = following.start() if following else len(text)
    gap = re.sub(r"[^\r\n]", " ", text[statement.start : end])
    return text[: statement.start] + gap + text[end:]


def _is_outside(statement: Statement, offset: int, text: str) -> bool:
    """Tell whether an offset lies in a comment before or after a statement."""
    return offset < statement.start or 0 < statement.end <= offset < len(text)


def _without_line(text: str, offset: int) -> str:
    start = text.rfind("\n", 0, offset) + 1
    end = text.find("\n", offset)
    end = len(text) if end < 0 else end
    return text[:start] + re.sub(r"[^\r\n]", " ", text[start:end]) + text[end:]


def _resume(text: str, start: int, fault: int) -> int:
    """Return where to go on after a broken statement: after the line of the fault, or before it."""
    line_start = text.rfind("\n", 0, fault) + 1
    if line_start > start and not text[line_start:fault].strip():
        return line_start
    line_end = text.find("\n", fault)
    return len(text) if line_end < 0 else line_end


def _syntax_fault(text: str, scan: Scanner) -> Diagnostic | None:
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
    scan: Scanner
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


def _explain(text: str, scan: Scanner, message: str, offset: int) -> Diagnostic:
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
    found = wrong.fault("P120", "expected `=` after the key", *helps, label="expected `=`")
    return _with_odd_letter(wrong, found)


def _with_odd_letter(wrong: _Wrong, found: Diagnostic) -> Diagnostic:
    """Name a letter outside of quotes that may look like an ordinary one."""
    odd = odd_letters(wrong.text[wrong.offset : wrong.offset + 1])
    return evolve(found, notes=(f"{odd}: only quoted keys may hold it",)) if odd else found


def _explain_header(wrong: _Wrong) -> Diagnostic:
    close = "]]" if "']]'" in wrong.message else "]"
    return wrong.fault("P127", "the table header is not closed", label=f"expected `{close}`")


def _explain_statement(wrong: _Wrong) -> Diagnostic:
    helps = ("write `key = value`, `[table]` or `# comment`",)
    return _with_odd_letter(wrong, wrong.fault("P120", "this line is no TOML", *helps))


def _explain_key(wrong: _Wrong) -> Diagnostic:
    helps = ("a key holds letters, digits, `-` and `_`; put any other key in quotes",)
    return _with_odd_letter(wrong, wrong.fault("P120", "expected a key", *helps))


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
