"""A chart as SVG, for pages that load nothing."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from html import escape

from ..visible import visible
from .curves import Chart, Line, Points

WIDTH, HEIGHT = 480, 220
LEFT, RIGHT, TOP, BOTTOM = 56, 18, 8, 24
"""Room beside the lines."""
COLORS = ("#2f6fb0", "#d9662b", "#2a9d5c", "#8a5fbf", "#b58900", "#c2477f", "#1f9aa8")
MOST_POINTS = 600
"""Points of a line; of more, only some are drawn."""
MOST_SETS = 8


def figure(chart: Chart) -> str:
    """Return the chart with its title and the names of its lines."""
    return "\n".join(_lines(chart))


def _lines(chart: Chart) -> Iterator[str]:
    shown = [line for line in chart.lines if line.kind != "set"]
    shown += [line for line in chart.lines if line.kind == "set"][:MOST_SETS]
    title = _text(chart.title)
    points = [point for line in shown for point in line.points]
    frame = _Frame(points)
    yield f"<figure><figcaption><b>{title}</b> {_legend(shown)}</figcaption>"
    yield f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{title}">'
    for value in frame.y_ticks:
        y = frame.y(value)
        yield f'<line class="axis" x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}"/>'
        yield f'<text x="{LEFT - 5}" y="{y + 4:.1f}" text-anchor="end">{_number(value)}</text>'
    for step in frame.x_ticks:
        yield f'<text x="{frame.x(step):.1f}" y="{HEIGHT - 6}" text-anchor="middle">{step:,}</text>'
    for line in shown:
        yield from _drawn(line, frame)
    yield "</svg></figure>"


class _Frame:
    """Where steps and values lie in the picture."""

    def __init__(self, points: Points) -> None:
        steps = [step for step, _ in points]
        values = [value for _, value in points]
        self.first, self.last = min(steps), max(steps)
        low, high = min(values), max(values)
        # What rounding alone makes uneven is level.
        if high - low <= 1e-9 * max(abs(low), abs(high)):
            pad = abs(low) / 10 or 1.0
            low, high = low - pad, high + pad
        self.y_ticks = ticks(low, high)
        self.low, self.high = min(low, self.y_ticks[0]), max(high, self.y_ticks[-1])
        self.x_ticks = [round(t) for t in ticks(self.first, self.last, whole=True)]

    def x(self, step: float) -> float:
        share = (step - self.first) / ((self.last - self.first) or 1)
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)


def ticks(low: float, high: float, *, whole: bool = False) -> list[float]:
    """Return round numbers between two, about five of them; the two themselves where they are equal."""
    if high <= low:
        return [low]
    rough = (high - low) / 5
    unit = 10.0 ** math.floor(math.log10(rough))
    width = next(factor * unit for factor in (1, 2, 5, 10) if factor * unit >= rough * 0.99)
    if whole:
        width = max(1.0, round(width))
    start = math.ceil(low / width - 1e-9)
    count = math.floor(high / width + 1e-9) - start + 1
    return [(start + number) * width for number in range(count)] or [low, high]


def _drawn(line: Line, frame: _Frame) -> Iterator[str]:
    color = COLORS[line.number % len(COLORS)]
    points = _thinned(line.points)
    places = " ".join(f"{frame.x(step):.1f},{frame.y(value):.1f}" for step, value in points)
    faint = ' opacity="0.35"' if line.is_faint else ""
    dashes = ' stroke-dasharray="5 3"' if line.kind in ("evaluation", "set") else ""
    width = 1 if faint or line.kind == "set" else 1.8
    yield (
        f'<polyline points="{places}" fill="none" stroke="{color}" stroke-width="{width}"'
        f'{faint}{dashes} stroke-linejoin="round"/>'
    )
    if line.kind in ("evaluation", "set") or len(points) == 1:
        for step, value in points[-60:]:
            told = f"{_text(line.label)}, step {step:,}: {value:.6g}"
            yield (
                f'<circle cx="{frame.x(step):.1f}" cy="{frame.y(value):.1f}" r="2.5" fill="{color}">'
                f"<title>{told}</title></circle>"
            )


def _thinned(points: Points) -> Points:
    stride = -(-len(points) // MOST_POINTS)
    return points if stride < 2 else [*points[:-1:stride], points[-1]]


def _legend(lines: Sequence[Line]) -> str:
    # The running mean has the name and the colour of its line.
    named = {line.label: line for line in lines}
    return " ".join(
        f'<span class="name"><svg class="key" viewBox="0 0 18 8"><line x1="0" y1="4" x2="18" y2="4" '
        f'stroke="{COLORS[line.number % len(COLORS)]}" stroke-width="2.5"{_dashed(line)}/></svg> {_text(label)}</span>'
        for label, line in named.items()
    )


def _dashed(line: Line) -> str:
    return ' stroke-dasharray="5 3"' if line.kind in ("evaluation", "set") else ""


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _text(text: str) -> str:
    return escape(visible(text))
