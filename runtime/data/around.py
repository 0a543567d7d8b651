"""Options for a template that came with the model: Jinja that stands around it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import overload

from ..errors import ExitCode, UserError

PLACE = "{#- the template -#}"
"""Where the template itself goes."""
GENERATION = re.compile(r"\{%[-+]?\s*generation\s*[-+]?%\}")
_MARKS = re.compile(r"\{%[-+]?\s*(?:end)?generation\s*[-+]?%\}")
_SWITCHES = re.compile(r"set ((?:enable|preserve|clear)_thinking) =")
_OPTIONS = {
    "enable_thinking": "thinking",
    "preserve_thinking": "keep_thoughts",
    "clear_thinking": "keep_thoughts",
}
"""The option of `[template]` that a name in a template obeys."""


def read_template(path: Path) -> str:
    """Return the text of a template; raises `UserError` (DATA) where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as fault:
        cause = fault.strerror if isinstance(fault, OSError) else "not UTF-8 text"
        raise UserError(
            f"{path}: cannot read the chat template: {cause}", code=ExitCode.DATA
        ) from None


@overload
def put_around(template: str, options: str) -> str: ...


@overload
def put_around(template: dict[str, str], options: str) -> dict[str, str]: ...


def put_around(template: str | dict[str, str], options: str) -> str | dict[str, str]:
    """Return the template, or each of several, with the options around it.

    Raises:
        UserError: (DATA) it does not read what an option sets.
    """
    if isinstance(template, dict):
        return {name: put_around(text, options) for name, text in template.items()}
    _check_switches(template, options)
    if GENERATION.search(template) is None:
        # Marks in the options alone would say that nothing else is an answer.
        options = _MARKS.sub("", options)
    # Jinja drops the line end at the end of a file; here it would no longer be at the end.
    return options.replace(PLACE, template.removesuffix("\n"))


def _check_switches(template: str, options: str) -> None:
    names = _SWITCHES.findall(options)
    for option in dict.fromkeys(_OPTIONS[name] for name in names):
        known = [name for name in names if _OPTIONS[name] == option]
        if not any(name in template for name in known):
            words = " nor ".join(f"`{name}`" for name in known)
            raise UserError(
                f"`template.{option}` has no effect: the chat template does not read {words}",
                help='remove it, or use a template of the library: `[template] type = "named"`',
                code=ExitCode.DATA,
            )
