"""Rendering: a plan becomes the text of every generated file."""

from .files import render_files
from .programs import render_expand, render_fetch

__all__ = ["render_expand", "render_fetch", "render_files"]
