"""Specs whose data are elsewhere: judged without the network, and written into the program as they stand."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tiny import write_over
from tunec.compiler import compile_spec, from_toml
from tunec.compiler.diagnostics import Diagnostic, Level
from tunec.compiler.pipeline import analyse, plan_of

Find = Callable[[str], tuple[Diagnostic, ...]]


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever opens a connection fails."""

    def refuse(*_: Any) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def source(**settings: str) -> str:
    """Return the table of a source."""
    return "\n".join(
        ["[[data.sources]]", 'format = "messages"', *(f'{k} = "{v}"' for k, v in settings.items())]
    )


def codes(diagnostics: tuple[Diagnostic, ...]) -> list[str]:
    """Return the codes of the findings that are no notes."""
    return [item.code for item in diagnostics if item.level is not Level.NOTE]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"path": "https://example.org/chats.jsonl?download=true"}, []),
        ({"path": "s3://bucket/chats/*.jsonl"}, []),
        ({"path": "zip://chats.jsonl::https://example.org/chats.zip"}, []),
        ({"path": "htps://example.org/chats.jsonl"}, ["D740"]),
        ({"path": "https://example.org/chats/"}, ["D740"]),
        ({"path": "https://example.org/c.jsonl", "split": "test"}, ["D743"]),
        ({"path": "https://example.org/c.jsonl", "revision": "v1"}, ["D717"]),
        ({"path": "https://me:pass1234@example.org/c.jsonl"}, ["S503"]),
        ({"path": "https://example.org/c.jsonl?X-Amz-Signature=0123456789ab"}, ["S503"]),
        ({"path": "owner/chats", "hub": "huggingface"}, ["D742"]),
        ({"path": "owner/chats", "hub": "huggingface", "revision": "main"}, ["D742"]),
        ({"path": "owner/chats", "hub": "modelscope", "revision": "v1.0"}, []),
        ({"path": "https://example.org/c", "hub": "huggingface", "revision": "v1"}, ["D741"]),
        ({"path": "owner/chats/x.jsonl", "hub": "modelers", "revision": "v1"}, ["D741"]),
        ({"path": "data/chat.jsonl", "split": "test"}, ["D743"]),
    ],
)
def test_findings(found: Find, settings: dict[str, str], expected: list[str]) -> None:
    """Each mistake has its code; what is right has none, and needs no answer from anywhere."""
    assert codes(found(source(**settings))) == expected


def test_no_finding_repeats_a_password(found: Find) -> None:
    """Whatever else is wrong with an address that holds a password: no message shows it."""
    shown = found(source(path="https://me:pass1234@example.org/c/", split="test"))
    assert {"S503", "D743"} <= {item.code for item in shown}
    assert not [item for item in shown if "pass1234" in repr(item)]


def test_a_catalog_is_judged_alike(folder: Path, found: Find) -> None:
    """What a catalog declares is judged as if it stood in the spec."""
    entries = {
        "moving": 'path = "owner/chats"\nhub = "huggingface"',
        "unknown": 'path = "htps://example.org/c.jsonl"',
        "secret": 'path = "https://me:pass1234@example.org/c.jsonl"',
    }
    (folder / "far.toml").write_text(
        "".join(f'[{name}]\nformat = "messages"\n{text}\n' for name, text in entries.items())
    )
    judged = {
        name: codes(
            found(f'[[data.sources]]\nformat = "catalog"\ncatalog = "far.toml"\nentry = "{name}"')
        )
        for name in entries
    }
    assert judged == {"moving": ["D742"], "unknown": ["D740"], "secret": ["D740"]}


def test_the_plan_says_what_is_unknown(folder: Path) -> None:
    """Rows elsewhere are not counted, and the plan says so."""
    url = "https://example.org/chats.jsonl"
    made = plan_of(analyse(write_over(folder / "far-spec.toml", source(path=url)), {}))
    assert made.duration.num_rows is None
    assert any(url in text for text in made.unknown)


def test_the_program(folder: Path, tmp_path: Path) -> None:
    """Addresses and ids are texts in the program, not paths; names are those of the files."""
    text = "\n".join(
        [
            f'[run]\noutput_dir = "{tmp_path}/run"',
            source(path="https://example.org/a/chats.jsonl?download=true"),
            source(
                path="owner/talks",
                hub="huggingface",
                revision="v1.0",
                subset="en",
                split="test",
                folder="data",
                token_env="MY_TOKEN",
            ),
        ]
    )
    path = write_over(folder / "far-spec.toml", text)
    program = (compile_spec(from_toml(path), base_dir=folder) / "prepare.py").read_text()
    assert 'path="https://example.org/a/chats.jsonl?download=true",' in program
    assert 'name="chats",' in program
    assert 'path="owner/talks",' in program
    for setting in ("huggingface", "v1.0", "en", "test", "data", "MY_TOKEN"):
        assert f'="{setting}",' in program
