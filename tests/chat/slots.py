"""The peer's own slots (LLaMA-Factory 0.9.5), as a table: what the library and its templates are held against."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

TABLE = Path(__file__).with_name("slots.csv")
CONTENT = "{{content}}"
_MARKS = {"bos_token": "{{bos}}", "eos_token": "{{eos}}"}
CALLS_AS_ANSWERS = {
    "seed_oss": "the table opens the assistant's turn twice",
    "gemma4": "the table puts the marks of declarations around calls",
    "gemma4n": "the table puts the marks of declarations around calls",
    "youtu": "the table ends no call",
}
"""Where the table's slot of a call is a slip, so that a call is written like an answer."""
OBSERVATIONS = {"granite4": ("assistant\n", "assistant<|end_of_role|>")}
"""Where a mark is missing in the table's slot of a result."""
RESULTS = ("<tool_response>\n{{content}}\n</tool_response>", "<response>{{content}}</response>")
"""What stands around each of several results in one turn."""
GPT_OSS = {"instead_of_thought": "<|channel|>final<|message|>", "turn_end": "<|end|>"}
"""What the table lacks, and the models know: the channel stays where a thought is dropped, and answers end."""


@dataclass(frozen=True)
class Slots:
    """A template as the table has it, with the opening of an answer cut off the turns before it."""

    name: str
    user: str
    opening: str
    assistant: str
    system: str
    prefix: str
    tool: str
    result: str
    call: str
    tool_format: str
    tool_list: str
    default_system: str
    system_in_user: bool
    thought: tuple[str, ...]
    empty_thought: str
    stop: tuple[str, ...]
    efficient_eos: bool
    instead_of_thought: str = ""
    turn_end: str = ""


@cache
def rows() -> Mapping[str, Mapping[str, str]]:
    """Return the rows of the table by name, in their order."""
    with TABLE.open(encoding="utf-8", newline="") as file:
        return {row["name"]: row for row in csv.DictReader(file)}


def slot(cell: str) -> str:
    """Return the pieces of a slot as one text."""
    pieces = (
        piece
        if isinstance(piece, str)
        else piece.get("token") or _MARKS.get(piece["special"], piece["special"])
        for piece in json.loads(cell)
    )
    return "".join(pieces)


@cache
def slots(name: str) -> Slots:
    """Return a template of the table."""
    row = rows()[name]
    opening, assistant = row["opening"], slot(row["assistant_format"])
    call = "" if name in CALLS_AS_ANSWERS else slot(row["function_format"])
    if assistant.startswith(opening):
        # The table counts this role mark to the answer; a server writes it.
        assistant, call = assistant.removeprefix(opening), call.removeprefix(opening)
    tool = slot(row["observation_format"]).replace(*OBSERVATIONS.get(name, ("\0", "")))
    result = next((mark for mark in RESULTS if mark in tool), "")
    is_reasoning = row["class"].endswith("ReasoningTemplate")
    plain = row["tools_format_name"].startswith("none")
    return Slots(
        name=name,
        user=slot(row["user_format"]).removesuffix(opening),
        opening=opening,
        assistant=assistant,
        system=slot(row["system_format"]),
        prefix=slot(row["prefix_format"]),
        tool=(tool.replace(result, CONTENT) if result else tool).removesuffix(opening),
        result=result,
        call="" if call == assistant else call,
        tool_format=row["function_tool_format"],
        tool_list=slot(row["tools_format_name"].partition("StringFormatter ")[2][:-1])
        if plain
        else "",
        default_system=json.loads(row["default_system"]),
        system_in_user=row["class"] == "Llama2Template",
        thought=tuple(json.loads(row["thought_words"])) if is_reasoning else (),
        empty_thought=json.loads(row["thought_words"])[1]
        if row["class"].startswith("Glm47")
        else "",
        stop=tuple(json.loads(row["stop_words"])),
        efficient_eos=row["efficient_eos"] == "True",
        **(GPT_OSS if name == "gpt_oss" else {}),
    )
