"""The reference pages: up to date, complete, and with links that lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tunec.compiler.codes import all_codes
from tunec.compiler.reference import COMMAND, pages
from tunec.compiler.settings import all_settings
from tunec.compiler.spec import Lora, Spec

DOCS = Path(__file__).parents[2] / "docs"
PAGES = pages()


@pytest.mark.parametrize("name", PAGES)
def test_the_pages_are_up_to_date(name: str) -> None:
    """They follow from the classes and rules, and are written anew whenever those change."""
    file = DOCS / name
    is_current = file.exists() and file.read_text(encoding="utf-8") == PAGES[name]
    assert is_current, f"docs/{name} is stale; run: {COMMAND}"


def test_every_key_stands_in_the_page() -> None:
    """Each with its type, default, range and text, wherever its table stands first."""
    page = PAGES["spec.md"]
    for item in all_settings():
        if item.table.path and not (item.is_tag and item.table.kind):
            assert f"| `{item.name}` |" in page, item.path
            assert item.doc.replace("|", "\\|") in page, item.path
    row = "| `rank` | whole number | `8` | at least 1 | Inner dimension of the adapters. |"
    assert row in page


def test_every_section_and_kind_has_a_heading() -> None:
    """Sections are headings of the second level, kinds stand below them."""
    page = PAGES["spec.md"]
    headings = re.findall(r"^(#+) (.*)$", page, re.MULTILINE)
    assert [title for hashes, title in headings if hashes == "##"] == [
        field.name for field in Spec.__attrs_attrs__
    ]
    assert ("###", '`[method]` `type = "lora"`') in headings
    assert Lora.__doc__ is not None
    assert Lora.__doc__ in page
    titles = [title for _, title in headings]
    assert len(set(titles)) == len(titles)


def test_every_code_stands_in_the_page() -> None:
    """With its name and its explanation."""
    page = PAGES["rules.md"]
    for item in all_codes().values():
        assert f"### {item.code}: {item.name}\n" in page
        assert item.text.split("\n")[0] in page
    assert "## Codes with" not in page, "name the letter of a new group of codes in reference.py"


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_to_headings(name: str) -> None:
    """Anchors are made the way GitHub makes them."""
    page = PAGES[name]
    headings = re.findall(r"^#+ (.*)$", page, re.MULTILINE)
    kept = [re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in headings]
    assert set(re.findall(r"\]\(#([^)]*)\)", page)) <= set(kept)


def test_tables_are_tables() -> None:
    """Each row has as many cells as its head, and blocks stand between empty lines."""
    for page in PAGES.values():
        for block in page.split("\n\n"):
            rows = [line for line in block.splitlines() if line.startswith("| ")]
            cells = {len(re.findall(r"(?<!\\)\|", row)) for row in rows}
            assert len(cells) <= 1, block
            assert len(rows) in (0, len(block.splitlines()))
