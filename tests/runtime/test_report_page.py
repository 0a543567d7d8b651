"""The report of a run: one page that holds everything, loads nothing and obeys no text; and a picture for each measure."""

from __future__ import annotations

import json
import re
import warnings
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy
import pytest
from PIL import Image

import inprocess
import tiny
from tunec.runtime.training.curves import GROUPS, charts, series
from tunec.runtime.training.page import page
from tunec.runtime.training.plot import draw_all
from tunec.runtime.training.svg import HEIGHT, WIDTH, figure, ticks

REPORT: dict[str, Any] = {
    "steps": 40, "train_loss": 0.5, "eval_loss": 0.6, "tokens": 4000, "tokens_per_s": 99.5,
    "parameters": 60000, "trainable_parameters": 400, "loss": "fused", "attention": "sdpa", "processes": 1,
    "peak_memory_bytes": 2**30, "seconds": {"train": 1.5}, "optimizer": {"class": "AdamW"}, "versions": {"torch": "2"},
}  # fmt: skip
HOSTILE = '<script>alert("x")</script>\u202e&'


class Tags(HTMLParser):
    """The tags of a page, and what they could load."""

    def __init__(self, text: str) -> None:
        """Read the page."""
        super().__init__()
        self.tags: list[str] = []
        self.loads: list[tuple[str, str | None]] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a tag."""
        self.tags.append(tag)
        self.loads += [(name, value) for name, value in attrs if name in ("src", "href", "style")]
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a tag that has no end."""
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Each tag ends where it should."""
        assert self.open.pop() == tag


def preference_rows() -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for step in range(1, 41):
        row = {"step": step, "loss": 0.7 - step / 100, "learning_rate": 1e-4, "grad_norm": None}
        rows.append(
            {
                **row,
                "accuracy": 0.5,
                "chosen_reward": step / 40,
                "rejected_reward": -step / 40,
                "margin": step / 20,
            }
        )
        if step % 20 == 0:
            rows.append(
                {"step": step, "eval_loss": 0.6, "eval_accuracy": 0.7, f"eval_loss/{HOSTILE}": 0.65}
            )
    return rows


def test_charts() -> None:
    """Numbers that belong together share a chart, in training and evaluation; unknown ones have charts of their own."""
    rows = [
        {"step": 1, "loss": 1.0, "reward": 0.1, "reward/length": 0.2, "novel": 3.0, "tokens": 5},
        {
            "step": 2,
            "eval_loss": 0.9,
            "eval_reward": 0.3,
            "eval_loss/wiki": 0.8,
            "eval_margin": 1.0,
        },
    ]
    found = {chart.name: chart for chart in charts(rows)}
    assert list(found) == ["loss", "reward", "novel"]
    assert [line.label for line in found["loss"].lines] == ["loss", "loss, evaluation", "wiki"]
    assert [line.label for line in found["reward"].lines] == [
        "reward",
        "reward, evaluation",
        "reward/length",
    ]
    assert len({group.name for group in GROUPS}) == len(GROUPS)


def test_numbers_that_are_none() -> None:
    """What was no finite number makes no point."""
    rows = [
        {"step": 1, "kl": None},
        {"step": 2, "kl": float("inf")},
        {"step": 3, "kl": 1},
        {"step": 4},
    ]
    assert series(rows, "kl") == [(3, 1)]
    assert charts([{"step": 1, "loss": None}]) == []


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]), (1e-5, 5e-5, [1e-5, 2e-5, 3e-5, 4e-5, 5e-5]), (-40, 3, [-40, -30, -20, -10, 0])],
)  # fmt: skip
def test_ticks(low: float, high: float, expected: list[float]) -> None:
    """Ticks are round and inside."""
    assert ticks(low, high) == pytest.approx(expected)


def test_lines_stay_inside() -> None:
    """Every point of every line is inside the picture, whatever the values are."""
    values = [1e-9, -1e6, 3.0, 3.0, 2e6]
    rows = [{"step": 10 * n, "loss": value, "kl": 2.0} for n, value in enumerate(values, start=1)]
    for chart in charts([*rows, {"step": 7, "eval_loss": 5.0}]):
        for points in re.findall(r'points="([^"]*)"', figure(chart)):
            for point in points.split():
                x, y = map(float, point.split(","))
                assert 0 <= x <= WIDTH
                assert 0 <= y <= HEIGHT


def test_page_is_whole_and_harmless() -> None:
    """Tags are closed, nothing is loaded, no text of the run is markup, and the best evaluation is marked."""
    report = {**REPORT, "best": {"metric": "eval_loss", "value": 0.6, "step": 20}, "final_step": 20}
    text = page(report, preference_rows(), name=HOSTILE, places=["final", HOSTILE])
    tags = Tags(text)
    assert not {"script", "img", "link", "iframe"} & set(tags.tags)
    assert tags.loads == []
    assert tags.open == []
    assert "default-src 'none'" in text
    assert "http" not in text.replace("http-equiv", "")
    assert "\u202e" not in text
    assert text.count('<tr class="best">') == 1
    assert "final/ holds step 20, the best" in text
    assert text.count("<figure>") == 4


def test_pictures(tmp_path: Path) -> None:
    """Each measure of the objective has its picture; names are no formulas, and nothing warns."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw_all(preference_rows(), tmp_path / "plots", title="costs $5_{")
    assert {path.name for path in (tmp_path / "plots").iterdir()} == {
        "accuracy.png",
        "loss.png",
        "rewards.png",
    }
    picture = numpy.asarray(Image.open(tmp_path / "plots" / "rewards.png").convert("RGB")).astype(
        int
    )
    for color in ((0x2F, 0x6F, 0xB0), (0xD9, 0x66, 0x2B), (0x2A, 0x9D, 0x5C)):
        near = numpy.abs(picture - numpy.array(color)).sum(axis=2) < 30
        assert near.sum() > 200


def test_losses_below_zero(tmp_path: Path) -> None:
    """A loss that goes below zero, as those on rewards do, is drawn there."""
    rows = [{"step": n, "loss": -float(n)} for n in range(1, 20)]
    draw_all(rows, tmp_path, title="run")
    picture = numpy.asarray(Image.open(tmp_path / "loss.png").convert("RGB")).astype(int)
    near = numpy.abs(picture - numpy.array((0x2F, 0x6F, 0xB0))).sum(axis=2) < 30
    assert near.sum() > 300


def test_a_run_leaves_a_page(tmp_path: Path, tiny_model: Path) -> None:
    """A finished run has its report as a page, with the folders of its weights."""
    (tmp_path / "model").symlink_to(tiny_model)
    tiny.write_chats(tmp_path / "data" / "chat.jsonl", 24)
    text = '[method]\ntype = "lora"\nrank = 2\n[data]\neval_rows = 4\n[evaluation]\naccuracy = true\nevery_steps = 2\n'
    text += "[training]\nsteps = 4\n[batch]\nglobal_size = 4\nmicro_size = 4\n[checkpoints]\nevery_steps = 2\n"
    run_dir = inprocess.compiled(tmp_path, text)
    inprocess.prepare(run_dir)
    inprocess.train(run_dir)
    found = (run_dir / "report.html").read_text(encoding="utf-8")
    assert Tags(found).loads == []
    assert "<code>final</code>" in found
    assert "<code>checkpoints/step-2</code>" in found
    report = json.loads((run_dir / "report.json").read_text())
    assert f"evaluation loss {report['eval_loss']:.4f}" in found
    assert {path.name for path in (run_dir / "plots").iterdir()} == {"loss.png", "accuracy.png"}
