"""The curves of a run as pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .curves import Chart, charts, smooth
from .metrics import eval_losses

INK, BLUE, ORANGE = "#333333", "#2f6fb0", "#d9662b"
SETS = ("#2a9d5c", "#8a5fbf", "#b58900", "#c2477f", "#1f9aa8", "#7a5c45")
"""Colours of the sets of an evaluation; with more sets they come again in another dash."""
DASHES = ("-", "--", ":")
COLORS = (BLUE, ORANGE, *SETS)
SHOWN_ELSEWHERE = {"loss", "learning_rate", "grad_norm", "perplexity"}
"""Charts that are no pictures of their own: they are in that of the loss, or in the report alone."""
NAMED = 10
"""Sets that the legend names: beyond it would cover the picture."""


def draw_losses(rows: Sequence[Mapping[str, Any]], path: Path, *, title: str) -> None:
    """Draw training loss, its running mean, evaluation loss and learning rate over the steps as a PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot, ticker

    # One point makes no line: it needs a mark to be seen.
    dot = {"marker": "o", "markersize": 4}
    train = [(row["step"], row["loss"]) for row in rows if row.get("loss") is not None]
    held_out = _evaluations(rows)
    total = held_out.pop("", [])
    rates = [
        (row["step"], row["learning_rate"]) for row in rows if row.get("learning_rate") is not None
    ]
    figure, (losses, rate) = pyplot.subplots(
        2,
        1,
        figsize=(11 if held_out else 8, 5.4),
        dpi=120,
        sharex=True,
        height_ratios=[4, 1],
        layout="constrained",
    )
    if train:
        steps, values = zip(*train, strict=True)
        losses.plot(
            steps,
            values,
            color=BLUE,
            alpha=0.3,
            linewidth=1,
            label="training, each line of the log",
            **(dot if len(train) == 1 else {}),
        )
        losses.plot(steps, smooth(values), color=BLUE, linewidth=2, label="training, running mean")
    if total:
        steps, values = zip(*total, strict=True)
        words = f"evaluation, all sets, {values[-1]:.3f}" if held_out else "evaluation"
        # Above the lines of its parts.
        losses.plot(steps, values, color=ORANGE, linewidth=2, label=words, zorder=3, **dot)
        if not held_out:
            losses.annotate(
                f"{values[-1]:.3f}",
                (steps[-1], values[-1]),
                textcoords="offset points",
                xytext=(-4, 8),
                ha="right",
                color=ORANGE,
            )
    _draw_sets(losses, held_out)
    if rates:
        rate.plot(
            *zip(*rates, strict=True), color=INK, linewidth=1.2, **(dot if len(rates) == 1 else {})
        )
    losses.set_title(title, loc="left", color=INK, parse_math=False)
    losses.set_ylabel("loss")
    if all(value >= 0 for _, value in (*train, *total)):
        losses.set_ylim(bottom=0)
    if train or total:
        _legend(losses, beside=bool(held_out))
    rate.set_ylabel("learning rate")
    rate.set_xlabel("step")
    rate.xaxis.set_major_locator(
        ticker.MaxNLocator(integer=True, min_n_ticks=1, steps=[1, 2, 5, 10])
    )
    rate.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
    for axes in (losses, rate):
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    pyplot.close(figure)


def draw_all(rows: Sequence[Mapping[str, Any]], folder: Path, *, title: str) -> None:
    """Draw the loss, and what else the objective measures, a PNG for each chart."""
    draw_losses(rows, folder / "loss.png", title=title)
    for chart in charts(rows):
        if chart.name not in SHOWN_ELSEWHERE:
            draw_chart(chart, folder / f"{chart.name}.png", title=title)


def draw_chart(chart: Chart, path: Path, *, title: str) -> None:
    """Draw the lines of a chart over the steps as a PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot, ticker

    figure, axes = pyplot.subplots(figsize=(8, 3.6), dpi=120, layout="constrained")
    for line in chart.lines:
        is_evaluation = line.kind in ("evaluation", "set")
        faint = line.is_faint
        axes.plot(
            *zip(*line.points, strict=True),
            color=COLORS[line.number % len(COLORS)],
            alpha=0.3 if faint else 1.0,
            linewidth=1 if faint else 1.8,
            linestyle="--" if is_evaluation else "-",
            marker="o" if is_evaluation or len(line.points) == 1 else "",
            markersize=4,
            # Its running mean has the name.
            label="_" if faint else f" {line.label}",
        )
    axes.set_title(title, loc="left", color=INK, parse_math=False)
    axes.set_ylabel(chart.title)
    axes.set_xlabel("step")
    axes.xaxis.set_major_locator(
        ticker.MaxNLocator(integer=True, min_n_ticks=1, steps=[1, 2, 5, 10])
    )
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    _legend(axes, beside=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    pyplot.close(figure)


def _evaluations(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[tuple[int, float]]]:
    """Return the points of each evaluation curve by the name of its set, the total under no name."""
    found: dict[str, list[tuple[int, float]]] = {}
    for row in rows:
        for name, loss in eval_losses(row).items():
            if loss is not None:
                found.setdefault(name, []).append((row["step"], loss))
    return found


def _draw_sets(axes: Any, sets: Mapping[str, Sequence[tuple[int, float]]]) -> None:
    for number, (name, points) in enumerate(sets.items()):
        shown = name if len(name) <= 28 else f"{name[:27]}…"
        # A label that begins with `_` would be left out.
        label = f" {shown}, {points[-1][1]:.3f}" if number < NAMED else "_"
        axes.plot(
            *zip(*points, strict=True),
            color=SETS[number % len(SETS)],
            linestyle=DASHES[number // len(SETS) % len(DASHES)],
            linewidth=1.2,
            marker="o",
            markersize=3,
            label=label,
        )
    if len(sets) > NAMED:
        axes.plot([], [], " ", label=f" and {len(sets) - NAMED} more")


def _legend(axes: Any, *, beside: bool) -> None:
    """Say what the curves are; where there are many, beside the picture, so that none is covered."""
    from matplotlib import rcParams

    place = {"loc": "upper left", "bbox_to_anchor": (1.0, 1.0)} if beside else {}
    with_math = rcParams["text.parse_math"]
    # A set may be called anything: its name is no formula.
    rcParams["text.parse_math"] = False
    axes.legend(frameon=False, **place)
    rcParams["text.parse_math"] = with_math
