"""A preview as one page: nothing is loaded from anywhere, and no text of the data is ever markup."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Sequence
from html import escape
from itertools import groupby

from ..visible import visible, with_breaks
from .assets import SCRIPT, STYLE
from .chart import chart
from .pieces import Gap, Piece
from .statistics import PERCENTS
from .view import GATES, Shown, SourceView, View, near


def page(view: View, samples: Sequence[Shown], *, name: str) -> str:
    """Return the page."""
    return "\n".join(_lines(view, samples, name)) + "\n"


def _lines(view: View, samples: Sequence[Shown], name: str) -> Iterator[str]:
    title = text_of(f"{name}: data preview")
    yield "<!doctype html>"
    yield '<html lang="en">'
    yield "<head>"
    yield '<meta charset="utf-8">'
    yield f'<meta http-equiv="Content-Security-Policy" content="{_policy()}">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<title>{title}</title>"
    yield f"<style>{STYLE}</style>"
    yield "</head>"
    yield "<body>"
    yield f"<h1>{title}</h1>"
    yield f'<p class="soft">{len(samples):,} samples of {len(view.candidates):,}, as the loss sees them.</p>'
    yield "<h2>Sources</h2>"
    yield from _table(view)
    yield "<h2>Lengths</h2>"
    yield '<div class="charts">'
    yield from (chart(source, view.max_length) for source in view.sources if source.percentiles)
    yield "</div>"
    yield "<h2>Samples</h2>"
    yield from _bar(view)
    yield from (part for source in view.sources for part in _problems(source))
    yield from (part for sample in samples for part in _sample(sample))
    yield f"<script>{SCRIPT}</script>"
    yield "</body>"
    yield "</html>"


def text_of(text: str) -> str:
    """Return text as HTML: markup characters escaped, invisible ones written out."""
    return escape(visible(text))


def _policy() -> str:
    """Allow the style and the script below by their digests, and nothing else."""
    style, script = (_digest(text) for text in (STYLE, SCRIPT))
    return f"default-src 'none'; style-src '{style}'; script-src '{script}'; base-uri 'none'; form-action 'none'"


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _table(view: View) -> Iterator[str]:
    heads = ["source", "read", "kept", *GATES.values(), "tokens", "carry loss"]
    heads += [f"{percent}&nbsp;%" for percent in PERCENTS]
    yield '<div class="scroll"><table>'
    yield "<tr>" + "".join(f"<th>{head}</th>" for head in heads) + "</tr>"
    for source in view.sources:
        report = source.report
        share = 100 * report.trainable / max(report.tokens, 1)
        gates = [source.count(gate) for gate in GATES]
        cells = [
            *(f"{count:,}" for count in (report.read, report.kept, *gates, report.tokens)),
            f"{share:.0f} %",
            *(f"{length:,}" for length in source.percentiles or ("",) * len(PERCENTS)),
        ]
        row = "".join(f"<td>{cell}</td>" for cell in cells)
        yield f"<tr><td>{text_of(source.label)}</td>{row}</tr>"
    yield "</table></div>"
    yield '<p class="soft">The last columns are lengths: that share of the samples has no more tokens.</p>'


def _bar(view: View) -> Iterator[str]:
    yield '<div class="bar">'
    yield '<label>source <select id="source"><option value="">all</option>'
    for source in view.sources:
        yield f'<option value="{source.number}">{text_of(source.label)}</option>'
    yield "</select></label>"
    yield '<label>problem <select id="problem"><option value="">with and without</option>'
    yield '<option value="any">any</option>'
    for gate, text in GATES.items():
        yield f'<option value="{gate}">{text}</option>'
    yield "</select></label>"
    yield '<span class="soft" id="count" aria-live="polite"></span>'
    yield '<span class="legend"><span><u>carries loss</u></span><span><i>masked</i></span>'
    yield '<span><q>special</q></span><span><q class="loss">special with loss</q></span></span>'
    yield "</div>"


def _problems(source: SourceView) -> Iterator[str]:
    """Yield the rows behind each gate; a dropped or bad row has no sample to be shown in."""
    for gate, text in GATES.items():
        listed = source.report.problems.get(gate, [])
        count = source.count(gate)
        if not count:
            continue
        first = f", the first {len(listed)}" if len(listed) < count else ""
        yield f'<article data-source="{source.number}" data-gates="{gate}"><header>'
        yield f"<b>{text_of(source.label)}</b>{count:,} {text}{first}</header><ul>"
        yield from (f"<li>{text_of(near(source.names.told(row)))}</li>" for row in listed)
        yield "</ul></article>"


def _sample(sample: Shown) -> Iterator[str]:
    use = "evaluation" if sample.evaluation else "training"
    tags = "".join(f'<span class="tag">{GATES[gate]}</span>' for gate in sample.gates)
    notes = "".join(f", {text_of(note)}" for note in sample.notes)
    gates = " ".join(sample.gates)
    yield f'<article class="sample" data-source="{sample.source.number}" data-gates="{gates}"><header>'
    yield f"<b>{text_of(near(sample.place))}</b>"
    yield f"{sample.length:,} tokens, {sample.num_loss:,} carry loss, {use}{notes}{tags}</header>"
    for part in sample.parts:
        if part.title:
            yield f"<h3>{part.title}</h3>"
        # The parser drops a line break right after <pre>: this one is for it.
        yield "<pre>\n" + "".join(_piece(piece) for piece in part.pieces) + "</pre>"
    yield "</article>"


def _piece(piece: Piece | Gap) -> str:
    if isinstance(piece, Gap):
        return (
            f'<span class="gap">{piece.count:,} tokens more, {piece.num_loss:,} carry loss</span>'
        )
    ids = ", ".join(map(str, piece.ids))
    if piece.special:
        tag, look = "q", ' class="loss"' if piece.loss else ""
    else:
        tag, look = ("u" if piece.loss else "i"), ""
    return f'<{tag}{look} title="{ids}">{_marked(piece.text)}</{tag}>'


def _marked(text: str) -> str:
    """Return text as HTML, with the marks of line breaks and tabs fainter than the text."""
    parts = groupby(with_breaks(text), key=lambda character: character in "↵→")
    return "".join(
        f"<s>{escape(''.join(run))}</s>" if mark else escape("".join(run)) for mark, run in parts
    )
