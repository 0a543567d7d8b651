"""The table in `docs/chat_templates.md`: `python -m tunec.compiler.chat.page docs/chat_templates.md` renews it."""

from __future__ import annotations

import sys
from pathlib import Path

from .library import LibraryTemplate, library

_BEGIN, _END = "<!-- table: begin -->", "<!-- table: end -->"
_COLUMNS = ("name", "tool format", "thinking", "stop words", "system", "example model")


def renewed(page: str) -> str:
    """Return the page with its table as the library has it now."""
    before, _, rest = page.partition(_BEGIN)
    after = rest.partition(_END)[2]
    return f"{before}{_BEGIN}\n{_table()}\n{_END}{after}"


def _table() -> str:
    rows = [_COLUMNS, ("---",) * len(_COLUMNS), *map(_row, library().values())]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _row(template: LibraryTemplate) -> tuple[str, ...]:
    return (
        f"`{template.name}`",
        template.tool_format,
        "yes" if template.is_reasoning else "",
        _ends(template),
        "yes" if template.default_system else "",
        template.example,
    )


def _ends(template: LibraryTemplate) -> str:
    words = [f"`{word}`".replace("|", r"\|") for word in template.stop]
    if template.replace_eos:
        words[0] += " (EOS)"
    if template.efficient_eos or "{{eos}}" in template.assistant:
        words.append("EOS")
    return ", ".join(words)


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(renewed(path.read_text(encoding="utf-8")), encoding="utf-8", newline="\n")
