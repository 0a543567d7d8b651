"""The library of templates: against the table of the peer's slots, and against its page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from chat.slots import CALLS_AS_ANSWERS, OBSERVATIONS, rows, slot
from tunec.compiler.chat import LibraryTemplate, library
from tunec.compiler.chat.page import renewed

ROOT = Path(__file__).parents[2]


def test_names() -> None:
    """The library has the 124 names of the table, in its order."""
    assert list(library()) == list(rows())
    assert len(library()) == 124


def test_slots() -> None:
    """Every slot is that of the table; the turn of the assistant is only cut elsewhere."""
    for row in rows().values():
        ours = library()[row["name"]]
        turns = ours.user + ours.opening + ours.assistant
        assert turns == slot(row["user_format"]) + slot(row["assistant_format"])
        assert ours.system == slot(row["system_format"])
        assert ours.prefix == slot(row["prefix_format"])
        check_tool(ours, row)
        check_call(ours, row)


def check_tool(ours: LibraryTemplate, row: dict[str, str]) -> None:
    tool = (ours.tool or ours.user).replace("{{content}}", ours.result or "{{content}}")
    theirs = slot(row["observation_format"])
    theirs = theirs.replace(*OBSERVATIONS.get(ours.name, ("\0", "")))
    assert tool + ours.opening in (theirs, theirs + moved(ours, row))


def check_call(ours: LibraryTemplate, row: dict[str, str]) -> None:
    if ours.name not in CALLS_AS_ANSWERS:
        assert moved(ours, row) + (ours.call or ours.assistant) == slot(row["function_format"])
    assert ours.tool_format == row["function_tool_format"]
    if row["tools_format_name"] != row["function_tool_format"]:
        assert ours.tool_list in row["tools_format_name"]
        assert ours.tool_list


def moved(ours: LibraryTemplate, row: dict[str, str]) -> str:
    """Return the role mark that the table counts to the answer, and we to the prompt."""
    return slot(row["assistant_format"]).removesuffix(ours.assistant)


def test_everything_else() -> None:
    """Default prompts, marks, words and switches are those of the table."""
    for row in rows().values():
        ours = library()[row["name"]]
        assert ours.default_system == json.loads(row["default_system"])
        assert list(ours.stop) == json.loads(row["stop_words"])
        assert str(ours.efficient_eos) == row["efficient_eos"]
        assert str(ours.replace_eos) == row["replace_eos"]
        assert [ours.image, ours.video, ours.audio] == [
            row[f"{kind}_token"] for kind in ("image", "video", "audio")
        ]
        assert ours.example == row["example_model"]
        check_class(ours, row["class"], json.loads(row["thought_words"]))


def check_class(ours: LibraryTemplate, kind: str, thought: list[Any]) -> None:
    assert ours.system_in_user == (kind == "Llama2Template")
    assert ours.is_reasoning == kind.endswith("ReasoningTemplate")
    assert list(ours.thought) == (thought if ours.is_reasoning else [])
    assert bool(ours.empty_thought) == kind.startswith("Glm47")


def test_values_make_sense() -> None:
    """Each slot has one place for the content, and replaced ends have a word to become."""
    for template in library().values():
        slots = (template.user, template.system, template.assistant, template.tool, template.call)
        assert all(text.count("{{content}}") == 1 for text in slots if text)
        assert template.stop or not template.replace_eos
        assert len(template.thought) in (0, 2)


def test_the_page_is_current() -> None:
    """The table in the docs is that of the library."""
    page = (ROOT / "docs/chat_templates.md").read_text(encoding="utf-8")
    assert page == renewed(page), "run `python -m tunec.compiler.chat.page docs/chat_templates.md`"
