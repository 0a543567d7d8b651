"""`tunec preview`: the compiled program that looks at the data."""

from __future__ import annotations

from typing import Any

from .programs import add_program


def add(verbs: Any) -> None:
    """Define the verb."""
    add_program(
        verbs,
        "preview",
        "show the data as the loss sees them: statistics, and samples token by token",
        "The data are prepared first, as training would. Further options go to the compiled preview.py:\n"
        "  --sample N                    this many samples, drawn (default: 3)\n"
        "  --row K, --source NAME        the sample of line K; one source alone\n"
        "  --problems                    the rows behind each gate, with file and line\n"
        "  --html FILE                   write one page instead, to be opened in a browser\n"
        "  --tokens                      a line for each token, with its place and id\n"
        "  --full, --seed N, --no-color",
    )
