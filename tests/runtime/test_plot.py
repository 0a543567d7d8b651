"""The loss curve: a picture for every run, however short."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any

import numpy
import pytest
from PIL import Image

from tunec.runtime.training.curves import smooth
from tunec.runtime.training.plot import SETS, draw_losses

BLUE, ORANGE = (0x2F, 0x6F, 0xB0), (0xD9, 0x66, 0x2B)


def draw(path: Path, rows: list[dict[str, Any]], title: str = "run") -> Any:
    """Draw and return the pixels, without a warning on the way."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw_losses(rows, path, title=title)
    return numpy.asarray(Image.open(path).convert("RGB")).astype(int)


def pixels(picture: Any, color: tuple[int, int, int]) -> int:
    """Count the pixels near a color."""
    return int((numpy.abs(picture - numpy.array(color)).sum(axis=2) < 30).sum())


def curve(count: int, *, key: str = "loss", **more: Any) -> list[dict[str, Any]]:
    return [{"step": n, key: 3 * math.exp(-n / 30) + 0.3, **more} for n in range(1, count + 1)]


def test_a_run(tmp_path: Path) -> None:
    """Training and evaluation curves of a run are in a PNG of 960 x 648 pixels, in a folder made for it."""
    path = tmp_path / "plots" / "loss.png"
    picture = draw(path, [*curve(100, learning_rate=1e-4), *curve(3, key="eval_loss")])
    assert path.read_bytes().startswith(b"\x89PNG")
    assert picture.shape == (648, 960, 3)
    assert pixels(picture, BLUE) > 500
    assert pixels(picture, ORANGE) > 100


def test_no_evaluation(tmp_path: Path) -> None:
    """Without evaluation there is the training curve only."""
    picture = draw(tmp_path / "loss.png", curve(10, learning_rate=1e-4))
    assert pixels(picture, BLUE) > 300
    assert pixels(picture, ORANGE) == 0


def test_sets(tmp_path: Path) -> None:
    """Each of several evaluation sets has a line of its own colour, whatever it is called, and the total keeps its."""
    names = ["_a", "costs $5_{", "b" * 90]
    sets = {f"eval_loss/{name}": 0.9 + 0.7 * number for number, name in enumerate(names)}
    rows = [*curve(20), *({"step": n, "eval_loss": 2.0, **sets} for n in (10, 20))]
    picture = draw(tmp_path / "loss.png", rows)
    assert picture.shape == (648, 1320, 3)
    assert pixels(picture, ORANGE) > 100
    for color in SETS[:3]:
        red, green, blue = bytes.fromhex(color[1:])
        assert pixels(picture, (red, green, blue)) > 100
    assert pixels(picture, tuple(bytes.fromhex(SETS[3][1:]))) == 0  # type: ignore[arg-type]


def test_more_sets_than_names(tmp_path: Path) -> None:
    """The legend stays inside the picture however many sets there are."""
    sets = {f"eval_loss/set {number}": 1.0 + number for number in range(40)}
    rows = [*curve(20), *({"step": n, "eval_loss": 2.0, **sets} for n in (10, 20))]
    picture = draw(tmp_path / "loss.png", rows)
    assert (picture[-5:, 1000:] == 255).all()


def test_one_row_shows(tmp_path: Path) -> None:
    """The loss of a run of one step is a visible dot, not a line of no length."""
    one = draw(tmp_path / "one.png", curve(1))
    none = draw(tmp_path / "none.png", [{"step": 1}])
    inside = numpy.s_[20:400, 60:520]
    assert (one[inside] != 255).any(axis=2).sum() > (none[inside] != 255).any(axis=2).sum() + 20


def test_no_rows(tmp_path: Path) -> None:
    """An empty run gives an empty picture, not a fault at the end of a run."""
    assert draw(tmp_path / "loss.png", []).shape == (648, 960, 3)


@pytest.mark.parametrize("title", ["costs $5 and $x_{", "a_b^c \\frac{", "ünd 100 %", ""])
def test_any_title(tmp_path: Path, title: str) -> None:
    """A run may be called anything: its name is no formula."""
    assert draw(tmp_path / "loss.png", curve(3), title=title).any()


def test_lost_numbers(tmp_path: Path) -> None:
    """A loss that was no number (null in the file) is passed over."""
    rows = [*curve(5), {"step": 6, "loss": None, "learning_rate": None}, {"step": 7, "loss": 0.4}]
    assert pixels(draw(tmp_path / "loss.png", rows), BLUE) > 300


def test_running_mean() -> None:
    """The mean of a constant is the constant from the first value on, and it stays between the extremes."""
    assert smooth([2.5] * 40) == pytest.approx([2.5] * 40)
    values = [float(n % 7) for n in range(200)]
    assert all(0 <= value <= 6 for value in smooth(values))
    assert max(smooth(values)[100:]) - min(smooth(values)[100:]) < 3
