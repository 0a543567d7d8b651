"""The report of a run as one page: what it was, how it went, where the weights are. Nothing is loaded from anywhere."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from ..preview.assets import STYLE as SHARED
from ..storage import gib
from ..visible import visible
from .curves import charts
from .metrics import EVAL_LOSS
from .svg import figure

STYLE = (
    SHARED
    + """
.facts td { text-align: left; white-space: normal; overflow-wrap: anywhere; }
.facts td:first-child { color: var(--soft); white-space: nowrap; width: 1%; }
.name { font-size: .8rem; color: var(--soft); margin-left: .6rem; white-space: nowrap; }
svg.key { display: inline-block; width: 18px; height: 8px; vertical-align: middle; }
tr.best td { font-weight: 700; }
code { font: .9em ui-monospace, Menlo, Consolas, monospace; overflow-wrap: anywhere; }
"""
)
Row = Mapping[str, Any]


def page(
    report: Mapping[str, Any], rows: Sequence[Row], *, name: str, places: Sequence[str]
) -> str:
    """Return the page of a run: `report` is `report.json`, `rows` are those of `metrics.jsonl`.

    `places` are the folders with weights, relative to that of the page.
    """
    return "\n".join(_lines(report, rows, name, places)) + "\n"


def _lines(
    report: Mapping[str, Any], rows: Sequence[Row], name: str, places: Sequence[str]
) -> Iterator[str]:
    title = _text(name)
    yield "<!doctype html>"
    yield '<html lang="en">'
    yield "<head>"
    yield '<meta charset="utf-8">'
    yield f'<meta http-equiv="Content-Security-Policy" content="{_policy()}">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<title>{title}: report</title>"
    yield f"<style>{STYLE}</style>"
    yield "</head>"
    yield "<body>"
    yield f"<h1>{title}</h1>"
    yield f'<p class="soft">{_text(_summary(report))}</p>'
    yield "<h2>Curves</h2>"
    yield '<div class="charts">'
    yield from map(figure, charts(rows))
    yield "</div>"
    yield from _evaluations(report, rows)
    yield "<h2>Weights</h2>"
    yield "<ul>"
    yield from (f"<li><code>{_text(place)}</code></li>" for place in places)
    yield "</ul>"
    yield "<h2>Facts</h2>"
    yield from _facts(report)
    yield "</body>"
    yield "</html>"


def _summary(report: Mapping[str, Any]) -> str:
    parts = [f"{report['steps']:,} steps, {report['tokens']:,} tokens"]
    if report.get("train_loss") is not None:
        parts.append(f"loss {report['train_loss']:.4f}")
    if report.get("eval_loss") is not None:
        parts.append(f"evaluation loss {report['eval_loss']:.4f}")
    if early := report.get("stopped_early"):
        parts.append(f"ended early after step {early['step']:,}: {early['reason']}")
    if report.get("final_step", report["steps"]) != report["steps"]:
        parts.append(f"final/ holds step {report['final_step']:,}, the best")
    return "; ".join(parts) + "."


def _evaluations(report: Mapping[str, Any], rows: Sequence[Row]) -> Iterator[str]:
    measured = [row for row in rows if EVAL_LOSS in row]
    if not measured:
        return
    names = list(dict.fromkeys(name for row in measured for name in row if name != "step"))
    heads = "".join(f"<th>{_text(name.removeprefix('eval_'))}</th>" for name in names)
    best = report.get("best", {}).get("step")
    yield "<h2>Evaluations</h2>"
    yield f'<div class="scroll"><table><tr><th>step</th>{heads}</tr>'
    for row in measured:
        cells = "".join(f"<td>{_cell(row.get(name))}</td>" for name in names)
        mark, tag = (
            (' class="best"', ' <span class="tag">best</span>') if row["step"] == best else ("", "")
        )
        yield f"<tr{mark}><td>{row['step']:,}{tag}</td>{cells}</tr>"
    yield "</table></div>"


def _cell(value: Any) -> str:
    return "" if value is None else f"{value:.4f}" if abs(value) < 1e4 else f"{value:,.0f}"


def _facts(report: Mapping[str, Any]) -> Iterator[str]:
    told = {
        "parameters": f"{report['parameters']:,}, {report['trainable_parameters']:,} trained",
        "loss": report["loss"],
        "attention": report["attention"],
        "processes": report["processes"],
        "speed": f"{report['tokens_per_s']:,.0f} tokens/s",
        "peak memory of the first process": gib(report["peak_memory_bytes"]),
        "seconds": _pairs(report["seconds"]),
        "optimizer": _pairs(report["optimizer"]),
        "versions": _pairs(report["versions"]),
    }
    yield '<div class="scroll"><table class="facts">'
    for name, value in told.items():
        yield f"<tr><td>{_text(name)}</td><td>{_text(str(value))}</td></tr>"
    yield "</table></div>"


def _pairs(value: Any) -> str:
    if not isinstance(value, Mapping):
        return str(value)
    return ", ".join(f"{name} {_pairs(part)}" for name, part in value.items())


def _text(text: str) -> str:
    return escape(visible(text))


def _policy() -> str:
    """Allow the style above by its digest, and nothing else."""
    digest = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    return f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
