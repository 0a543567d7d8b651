"""The loss curve as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

INK, BLUE, ORANGE = "#333333", "#2f6fb0", "#d9662b"


def draw_losses(rows: Sequence[Mapping[str, Any]], path: Path, *, title: str) -> None:
    """Draw training loss, its running mean, evaluation loss and learning rate over the steps as a PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot, ticker

    # One point makes no line: it needs a mark to be seen.
    dot = {"marker": "o", "markersize": 4}
    train = [(row["step"], row["loss"]) for row in rows if row.get("loss") is not None]
    held_out = [(row["step"], row["eval_loss"]) for row in rows if row.get("eval_loss") is not None]
    rates = [
        (row["step"], row["learning_rate"]) for row in rows if row.get("learning_rate") is not None
    ]
    figure, (losses, rate) = pyplot.subplots(
        2, 1, figsize=(8, 5.4), dpi=120, sharex=True, height_ratios=[4, 1], layout="constrained"
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
        losses.plot(steps, _smooth(values), color=BLUE, linewidth=2, label="training, running mean")
    if held_out:
        steps, values = zip(*held_out, strict=True)
        losses.plot(steps, values, color=ORANGE, linewidth=2, label="evaluation", **dot)
        losses.annotate(
            f"{values[-1]:.3f}",
            (steps[-1], values[-1]),
            textcoords="offset points",
            xytext=(-4, 8),
            ha="right",
            color=ORANGE,
        )
    if rates:
        rate.plot(
            *zip(*rates, strict=True), color=INK, linewidth=1.2, **(dot if len(rates) == 1 else {})
        )
    losses.set_title(title, loc="left", color=INK, parse_math=False)
    losses.set_ylabel("loss (nats a token)")
    losses.set_ylim(bottom=0)
    if train or held_out:
        losses.legend(frameon=False)
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


def _smooth(values: Sequence[float]) -> list[float]:
    """Return the exponential running mean over a twelfth of the curve, corrected for its start as Adam does."""
    keep = 1 - min(1.0, 12 / len(values))
    smoothed, mean = [], 0.0
    for count, value in enumerate(values, start=1):
        mean = keep * mean + (1 - keep) * value
        smoothed.append(mean / (1 - keep**count))
    return smoothed
