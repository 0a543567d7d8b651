"""A preview as text: colours where a terminal shows them, brackets elsewhere."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from typing import TextIO

from ..visible import visible, with_breaks
from .pieces import Gap, Piece
from .statistics import PERCENTS, Histogram
from .view import GATES, Shown, SourceView, View, near

RESET = "\x1b[0m"
LOSS, MASKED, SPECIAL, SPECIAL_LOSS, BOLD = (
    "\x1b[30;42m",
    "\x1b[2m",
    "\x1b[35m",
    "\x1b[1;30;46m",
    "\x1b[1m",
)
BARS = " ▁▂▃▄▅▆▇█"


def has_color(stream: TextIO) -> bool:
    """Tell whether a stream takes colours: FORCE_COLOR and NO_COLOR decide over the terminal."""
    if os.environ.get("FORCE_COLOR"):
        return True
    dumb = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return stream.isatty() and not dumb


class Terminal:
    """Lines of text for what a view holds; nothing in them is obeyed by a terminal but its own colours."""

    def __init__(self, *, color: bool) -> None:
        """Remember whether colours are wanted."""
        self.color = color

    def statistics(self, view: View) -> Iterator[str]:
        """Yield the numbers of each source."""
        for source in view.sources:
            report = source.report
            kind = " (evaluation)" if report.evaluation else ""
            yield self._bold(f"{visible(report.name)}{kind}") + f"  {visible(near(source.path))}"
            yield f"  rows     {_rows(source)}"
            share = 100 * report.trainable / max(report.tokens, 1)
            yield f"  tokens   {report.tokens:,}, {report.trainable:,} carry loss ({share:.0f} %)"
            if source.percentiles:
                pairs = zip(PERCENTS, source.percentiles, strict=True)
                yield "  length   " + "  ".join(f"{p} %: {n:,}" for p, n in pairs)
                yield f"           {_bars(source.histogram, view.max_length)}"

    def problems(self, source: SourceView) -> Iterator[str]:
        """Yield the rows behind each gate of a source."""
        for gate, text in GATES.items():
            listed = source.report.problems.get(gate, [])
            count = source.count(gate)
            if count:
                more = f", the first {len(listed)}" if len(listed) < count else ""
                yield ""
                yield self._bold(f"{visible(source.label)}: {count:,} {text}{more}")
                yield from (f"  {visible(near(source.names.told(row)))}" for row in listed)

    def legend(self) -> str:
        """Return what the marks mean."""
        parts = (
            Piece("carries loss", (), True),
            Piece("masked", (), False),
            Piece("special", (), False, special=True),
            Piece("special with loss", (), True, special=True),
        )
        return "  ".join(self._run([part]) for part in parts)

    def sample(self, sample: Shown, *, tokens: bool = False) -> Iterator[str]:
        """Yield a sample: where it is from, and its text; or with `tokens` a line for each of them."""
        use = "evaluation" if sample.evaluation else "training"
        parts = [
            f"{sample.length:,} tokens",
            f"{sample.num_loss:,} carry loss",
            use,
            *sample.notes,
            *(GATES[gate] for gate in sample.gates),
        ]
        yield ""
        yield self._bold(visible(near(sample.place))) + f"  {', '.join(parts)}"
        for part in sample.parts:
            if part.title:
                yield self._bold(f"-- {part.title}")
            if tokens:
                yield from self._token_lines(part.pieces)
            else:
                text = "".join(self._run(list(run)) for _, run in groupby(part.pieces, key=_look))
                yield text.removesuffix("\n")

    def _token_lines(self, pieces: Sequence[Piece | Gap]) -> Iterator[str]:
        at = 0
        for piece in pieces:
            if isinstance(piece, Gap):
                yield self._gap(piece).strip("\n")
                at += piece.count
                continue
            ids = " ".join(map(str, piece.ids))
            yield f"{at:7}  {ids:>12}  {self._run([replace(piece, text=visible(piece.text))])}"
            at += len(piece.ids)

    def _run(self, run: Sequence[Piece | Gap]) -> str:
        """Return pieces that look alike."""
        first = run[0]
        if isinstance(first, Gap):
            return self._gap(first)
        text = with_breaks("".join(piece.text for piece in run if isinstance(piece, Piece)))
        if not self.color:
            text = f"‹{text}›" if first.special else text
            return f"⟦{text}⟧" if first.loss else text
        if first.special:
            style = SPECIAL_LOSS if first.loss else SPECIAL
        else:
            style = LOSS if first.loss else MASKED
        # A background that goes over the end of a line would fill the rest of it on some terminals.
        return "\n".join(f"{style}{line}{RESET}" if line else "" for line in text.split("\n"))

    def _gap(self, gap: Gap) -> str:
        return (
            f"\n{self._bold('...')} {gap.count:,} tokens more, {gap.num_loss:,} carry loss "
            f"(--full shows them) {self._bold('...')}\n"
        )

    def _bold(self, text: str) -> str:
        return f"{BOLD}{text}{RESET}" if self.color else text


def _look(piece: Piece | Gap) -> tuple[bool, ...]:
    return (piece.loss, piece.special) if isinstance(piece, Piece) else ()


def _rows(source: SourceView) -> str:
    report = source.report
    gates = [f"{source.count(gate):,} {text}" for gate, text in GATES.items()]
    return ", ".join([f"{report.read:,} read", f"{report.kept:,} kept", *gates])


def _bars(found: Histogram, max_length: int) -> str:
    """Return a histogram of one line, with `max_length` marked where it is near."""
    most = max(found.counts)
    bars = "".join(BARS[-(-8 * count // most)] for count in found.counts)
    end = len(found.counts) * found.width
    mark = f"max_length {max_length:,}"
    if max_length < 2 * end:
        bars = bars.ljust(-(-max_length // found.width))
        return f"0 {bars}| {mark}"
    return f"0 {bars} {end:,}  ({mark} is far beyond)"
