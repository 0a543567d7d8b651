"""Which parameters are trained: a table by the kind of module, and a list of every one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from torch import Tensor

NOT_A_KIND = {"weight", "bias", "base_layer", "original_module", "modules_to_save", "default"}
"""Parts of names that do not say what a module is for."""


def table_of(model: Any) -> list[str]:
    """Return the lines of a table: for each kind of module how many parameters are trained and frozen, in which format.

    A kind is the name that modules of all blocks share, such as `q_proj`; that of an adapter has both names, such as
    `q_proj lora_A`. Packed weights of few bits count as they are stored.
    """
    counts: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])
    named = list(model.named_parameters())
    adapted = {name.split(".base_layer.")[0] for name, _ in named if ".base_layer." in name}
    for name, parameter in named:
        key = (_kind(name, adapted), _format(parameter))
        counts[key][0 if parameter.requires_grad else 1] += _size(parameter)
    rows = [("parameters", "trained", "frozen", "format")]
    for (kind, form), (trained, frozen) in counts.items():
        rows.append((kind, _number(trained), _number(frozen), form))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return [
        f"  {row[0]:<{widths[0]}}  {row[1]:>{widths[1]}}  {row[2]:>{widths[2]}}  {row[3]}"
        for row in rows
    ]


def list_of(model: Any) -> Iterator[str]:
    """Yield a line for each parameter: name, shape, format, device, and whether it is trained."""
    for name, parameter in model.named_parameters():
        # Under ZeRO-3 a parameter's own shape is empty.
        shape = "x".join(map(str, getattr(parameter, "ds_shape", parameter.shape)))
        state = "trained" if parameter.requires_grad else "frozen"
        yield f"  {name}: {shape} {_format(parameter)} on {parameter.device.type}, {state}"


def _kind(name: str, adapted: set[str]) -> str:
    parts = [part for part in name.split(".") if part not in NOT_A_KIND and not part.isdigit()]
    last = parts[-1] if parts else name
    module = next((each for each in adapted if name.startswith(f"{each}.")), None)
    if module is None or ".base_layer." in name:
        return last
    return f"{module.rsplit('.', 1)[-1]} {last}"


def _format(parameter: Tensor) -> str:
    return str(parameter.dtype).removeprefix("torch.")


def _size(parameter: Tensor) -> int:
    return int(getattr(parameter, "ds_numel", parameter.numel()))


def _number(count: int) -> str:
    return f"{count:,}" if count else "-"
