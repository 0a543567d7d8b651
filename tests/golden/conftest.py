"""The folder that golden specs are compiled in."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

MARKED = (
    "{% for m in messages %}{% if m['role'] == 'assistant' %}A: {% generation %}{{ m['content'] }}<|im_end|>{% endgeneration %}\n"
    "{% else %}Q: {{ m['content'] }}\n{% endif %}{% endfor %}{% if add_generation_prompt %}A: {% endif %}"
)


def write_formats(data: Path) -> None:
    """Write conversations with tools in ShareGPT's words, a CSV file, and a catalog."""
    call = json.dumps({"name": "weather", "arguments": {"town": "Oslo"}})
    said = [
        ("human", "Rain?"),
        ("function_call", call),
        ("observation", "dry"),
        ("gpt", "No rain."),
    ]
    row = {
        "system": "You are Wren.",
        "conversations": [{"from": tag, "value": text} for tag, text in said],
        "tools": json.dumps([{"name": "weather", "description": "Tell the weather."}]),
    }
    (data / "calls.json").write_text(json.dumps([row] * 9), encoding="utf-8")
    rows = "".join(f'"Say {n}.","{n}, it is."\n' for n in range(8))
    (data / "facts.csv").write_text(f"instruction,output\n{rows}", encoding="utf-8")
    catalog = '[facts]\nformat = "alpaca"\npath = "facts.json"\nlimit = 5\n'
    (data / "catalog.toml").write_text(catalog, encoding="utf-8")


@pytest.fixture
def golden_workspace(workspace: Path) -> Path:
    """The common workspace with the further files that golden specs name."""
    facts = [{"instruction": f"Say {n}.", "input": "", "output": f"{n} it is."} for n in range(8)]
    (workspace / "data" / "facts.json").write_text(json.dumps(facts, indent=1), encoding="utf-8")
    rows = [
        json.loads(line) for line in (workspace / "data" / "chat.jsonl").read_text().splitlines()
    ]
    turns = [
        {"turns": [{"who": m["role"], "text": m["content"]} for m in row["messages"]]}
        for row in rows
    ]
    (workspace / "data" / "turns.jsonl").write_text(
        "\n".join(map(json.dumps, turns)), encoding="utf-8"
    )
    (workspace / "chat.jinja").write_text(MARKED, encoding="utf-8")
    write_formats(workspace / "data")
    return workspace


@pytest.fixture(params=sorted(p.parent.name for p in Path(__file__).parent.glob("*/spec.toml")))
def golden(request: pytest.FixtureRequest) -> Path:
    """One golden folder: `spec.toml` and `expected/`."""
    return Path(__file__).parent / str(request.param)
