"""Diagnostics to text for people and to JSON for programs."""

from .as_json import FORMAT_VERSION, pointer, render_json, render_json_of
from .cells import TAB_WIDTH, shortened, visible_lines
from .regions import Region, fix_regions, fixable, region_of
from .sources import Composed, Documents, Source, main_document, ordered, sort_key
from .text import render_text

__all__ = [
    "FORMAT_VERSION",
    "TAB_WIDTH",
    "Composed",
    "Documents",
    "Region",
    "Source",
    "fix_regions",
    "fixable",
    "main_document",
    "ordered",
    "pointer",
    "region_of",
    "render_json",
    "render_json_of",
    "render_text",
    "shortened",
    "sort_key",
    "visible_lines",
]
