"""The histogram of a source as SVG."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from ..visible import visible
from .view import SourceView

WIDTH, HEIGHT, BASE = 360, 130, 105
"""The picture in its own units, and where its axis runs."""
TOP = 14


def chart(source: SourceView, max_length: int) -> str:
    """Return a figure: bars from 0 to the longest sample, and `max_length` where it is near."""
    return "\n".join(_lines(source, max_length))


def _lines(source: SourceView, max_length: int) -> Iterator[str]:
    found = source.histogram
    end = len(found.counts) * found.width
    near = max_length < 2 * end
    right = max(end, max_length * 1.02) if near else end
    where = "" if near else f", all far below max_length {max_length:,}"
    label = escape(visible(source.label))
    yield f'<figure><figcaption><b>{label}</b> <span class="soft">{source.report.kept:,} samples{where}</span></figcaption>'
    yield f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="lengths of {label}">'
    yield from _bars(found.counts, found.width, right)
    yield f'<line class="axis" x1="0" y1="{BASE}" x2="{WIDTH}" y2="{BASE}"/>'
    yield f'<text x="0" y="{BASE + 16}">0</text>'
    yield f'<text x="{WIDTH}" y="{BASE + 16}" text-anchor="end">{right:,.0f} tokens</text>'
    if near:
        x = WIDTH * max_length / right
        yield f'<line class="mark" x1="{x:.1f}" y1="{TOP}" x2="{x:.1f}" y2="{BASE}"/>'
        anchor = "end" if x > WIDTH / 2 else "start"
        yield f'<text class="limit" x="{x:.1f}" y="{TOP - 3}" text-anchor="{anchor}">max_length {max_length:,}</text>'
    yield "</svg></figure>"


def _bars(counts: tuple[int, ...], width: int, right: float) -> Iterator[str]:
    most = max(counts)
    step = WIDTH * width / right
    for number, count in enumerate(counts):
        if count:
            # One sample among a million is still seen.
            height = max(1.5, (BASE - TOP) * count / most)
            first, last = number * width, (number + 1) * width - 1
            yield (
                f'<rect x="{number * step + 0.5:.1f}" y="{BASE - height:.1f}" width="{max(step - 1, 1):.1f}" '
                f'height="{height:.1f}"><title>{first:,} to {last:,} tokens: {count:,} samples</title></rect>'
            )
