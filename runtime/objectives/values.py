"""A value head: what a policy expects of the rest of an answer, from the hidden states its output head sees."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

NAME = "tunec_value"
"""What the value head is called inside the output head."""
FILE = "value_head.safetensors"
KEYS = {"weight": "v_head.summary.weight", "bias": "v_head.summary.bias"}
"""Names in the file, as other libraries write them."""


class ValueHead(nn.Linear):
    """One number of each hidden state, multiplied in fp32; at the start it is 0."""

    def reset_parameters(self) -> None:
        """Start with zeros: nothing is expected yet."""
        nn.init.zeros_(self.weight)
        nn.init.zeros_(self.bias)

    def forward(self, hidden_nh: Tensor) -> Tensor:
        """Return the values, fp32 `[n]`."""
        weight, bias = self.weight.float(), self.bias.float()
        return functional.linear(hidden_nh.float(), weight, bias).squeeze(-1)


class Values:
    """The value head of a policy, which works in the same forward pass as its output head."""

    def __init__(self, model: Any) -> None:
        """Put a value head into the output head, so that an engine trains, shards and saves it with the policy."""
        head = model.get_output_embeddings()
        width = getattr(head, "in_features", None) or model.config.get_text_config().hidden_size
        weight = next(head.parameters())
        self.head = ValueHead(width, 1, device=weight.device)
        head.add_module(NAME, self.head)
        head.register_forward_pre_hook(self._look)
        self._kept_bt: Tensor | None = None
        self._found: Tensor | None = None

    @contextmanager
    def of(self, kept_bt: Tensor) -> Iterator[None]:
        """Inside, a forward pass of the policy leaves the values at the positions that are kept."""
        self._kept_bt = kept_bt
        try:
            yield
        finally:
            self._kept_bt = None

    def take(self) -> Tensor:
        """Return the values of the last forward pass, fp32 `[n]`."""
        found, self._found = self._found, None
        if found is None:
            raise RuntimeError("the model did not call its output head")
        return found

    def _look(self, head: Any, given: Any) -> None:
        if self._kept_bt is not None:
            self._found = self.head(given[0][self._kept_bt])


def without_values(state: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the state of a policy without its value head, and that of the head alone by its names in the file."""
    head = {
        KEYS[name.rpartition(".")[2]]: value.detach().cpu().contiguous()
        for name, value in state.items()
        if f"{NAME}." in name
    }
    return {name: value for name, value in state.items() if f"{NAME}." not in name}, head


def write_values(folder: Path, head: dict[str, Tensor]) -> None:
    """Write a value head."""
    from safetensors.torch import save_file

    save_file({name: value.to(torch.float32) for name, value in head.items()}, folder / FILE)
