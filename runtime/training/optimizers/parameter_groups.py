"""Groups of parameters: with weight decay and without, and those with numbers of their own."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any

from ...errors import ExitCode, UserError

Named = Sequence[tuple[str, Any]]


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters whose names `pattern` is found in: their rate over that of the others, and their weight decay.

    None is the weight decay of the others: on weights, not on biases and norms.
    """

    pattern: str
    _: KW_ONLY
    rate_factor: float = 1.0
    weight_decay: float | None = None

    def of(
        self, named: Named, decayed: Collection[str], *, rate: float, weight_decay: float
    ) -> list[dict[str, Any]]:
        """Return the groups of an optimizer for `named`, which are those that match."""
        own = {"lr": rate * self.rate_factor, "pattern": self.pattern}
        if self.weight_decay is None:
            found = by_decay(named, decayed, weight_decay)
        else:
            found = [{"params": [p for _, p in named], "weight_decay": self.weight_decay}]
        return [{**group, **own} for group in found]


def by_decay(named: Named, decayed: Collection[str], weight_decay: float) -> list[dict[str, Any]]:
    """Return parameters in two groups: with weight decay and without."""
    both = [
        {"params": [p for n, p in named if n in decayed], "weight_decay": weight_decay},
        {"params": [p for n, p in named if n not in decayed], "weight_decay": 0.0},
    ]
    return [group for group in both if group["params"]]


def grouped(
    named: Named,
    decayed: Collection[str],
    own: Sequence[ParameterGroup],
    *,
    rate: float,
    weight_decay: float,
) -> list[dict[str, Any]]:
    """Return the groups of an optimizer; a parameter belongs to the first of `own` that matches, if any.

    Raises:
        UserError: one matches no parameter that is left for it.
    """
    left, special = list(named), []
    for group in own:
        matching = [(name, p) for name, p in left if re.search(group.pattern, name)]
        if not matching:
            raise UserError(
                f"no trained parameter that is left matches `{group.pattern}`",
                help="see `training.groups`; `logging.parameters = true` lists the names",
                code=ExitCode.SPEC,
            )
        taken = {name for name, _ in matching}
        left = [(name, p) for name, p in left if name not in taken]
        special += group.of(matching, decayed, rate=rate, weight_decay=weight_decay)
    return by_decay(left, decayed, weight_decay) + special
