"""What goes with what: each pair of a method, a quantization, a ZeRO stage, an objective and an optimizer as a spec.

The compiler says of each whether it is refused; what it is not refused is run by `test_matrix.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Literal

from attrs import frozen
from quantizations import QUANTIZATIONS

import tiny
from methods import METHODS
from optimizers import KINDS
from tunec.compiler.diagnostics import Level
from tunec.compiler.pipeline import analyse

Verdict = Literal["runs", "GPU only"] | str
"""Or the codes of the rules that refuse it."""

BASE: Mapping[str, str] = {
    "method": METHODS["lora"].spec,
    "quantization": "",
    "zero": "zero_stage = 0\n",
    "objective": "",
    "optimizer": "",
}
ROWS = (
    "full", "freeze", "lora", "dora", "olora", "pissa", "full-modules", "tokens", "oft", "boft", "ia3", "adalora",
    "vera", "loha", "lokr", "fourierft", "hra", "randlora", "miss", "miss-bat", "shira", "c3a", "ln-tuning", "road",
    "vblora", "prefix", "prompt", "p-tuning",
)  # fmt: skip
"""Methods that differ in what they train or how it is kept; the others are variants of LoRA."""
FUNCTION = '{ type = "function", path = "rewards.py" }'


def _objective(name: str, kind: str, file: str, more: str = "", **columns: str) -> str:
    """Return an objective with data it learns from; generated answers are a few tokens long."""
    given = "".join(f', {key} = "{value}"' for key, value in columns.items())
    return (
        f'[objective]\ntype = "{name}"\n{more}\n[data]\nmax_length = 64\n'
        f'sources = [{{ format = "{kind}", path = "data/{file}.jsonl"{given} }}]\n'
        + ("[generation]\nmax_new_tokens = 4\n" if kind == "prompt" else "")
    )


AXES: Mapping[str, Mapping[str, str]] = {
    "method": {
        **{name: METHODS[name].spec for name in ROWS},
        "lisa": '[method]\ntype = "lisa"\nblocks = 1\ninterval = 1\n',
    },
    "quantization": {
        "none": "",
        **QUANTIZATIONS,
        "eetq": '[quantization]\ntype = "eetq"\n',
    },
    "zero": {f"ZeRO-{stage}": f"zero_stage = {stage}\n" for stage in range(4)},
    "objective": {
        "SFT": "",
        "pretraining": _objective("pretraining", "text", "texts"),
        "reward": _objective("reward", "preference", "pairs"),
        "DPO": _objective("dpo", "preference", "pairs"),
        "DPO-precomputed": _objective(
            "dpo", "preference", "pairs", 'reference = { type = "precomputed" }'
        ),
        "ORPO": _objective("orpo", "preference", "pairs"),
        "KTO": _objective("kto", "messages", "judged", label="label"),
        "PPO": _objective("ppo", "prompt", "prompts", f"reward = {FUNCTION}"),
        "GRPO": _objective(
            "grpo", "prompt", "prompts", f"rewards = [{FUNCTION}]\ngroup_size = 2\nbeta = 0.1"
        ),
    },
    "optimizer": {
        name: f"[optimizer]\n{text}\n"
        for name, text in KINDS.items()
        if name.count("-") == 0 or name.endswith(("-8bit", "layerwise", "mini", "ratio"))
    },
}
TABLES: Sequence[tuple[str, str]] = (
    ("method", "quantization"),
    ("method", "zero"),
    ("method", "objective"),
    ("method", "optimizer"),
    ("objective", "zero"),
    ("objective", "quantization"),
    ("quantization", "zero"),
    ("quantization", "optimizer"),
    ("optimizer", "zero"),
)
"""Rows and columns of each table."""


@frozen
class Cell:
    """One pair, as a spec."""

    table: tuple[str, str]
    row: str
    column: str

    @property
    def name(self) -> str:
        """The name of a test."""
        return f"{self.row}-{self.column}"

    def text(self, device: str = "cpu") -> str:
        """Return the spec over the small base."""
        chosen = dict(BASE)
        if self.table == ("optimizer", "zero"):
            chosen["method"] = METHODS["full"].spec
        for axis, value in zip(self.table, (self.row, self.column), strict=True):
            chosen[axis] = AXES[axis][value]
        by_layer = "layerwise" in self.name
        return (
            chosen["method"]
            + chosen["quantization"]
            + chosen["objective"]
            + chosen["optimizer"]
            + f"[deepspeed]\n{chosen['zero']}"
            + f"[training]\nsteps = 2\nlearning_rate = 1e-2\nmax_grad_norm = {0 if by_layer else 1}.0\n"
            + "gradient_checkpointing = false\n[batch]\nglobal_size = 4\nmicro_size = 4\n"
            + f'[launch]\ndevice = "{device}"\n'
        )


def cells(table: tuple[str, str]) -> Iterator[Cell]:
    """Yield the cells of a table, row by row."""
    rows, columns = table
    for row in AXES[rows]:
        for column in AXES[columns]:
            yield Cell(table, row, column)


@cache
def verdict(cell: Cell, workspace: Path) -> Verdict:
    """Return what the compiler says of a cell in a workspace with a model and data."""
    codes = _errors(cell, workspace, "cpu")
    if not codes:
        return "runs"
    if _errors(cell, workspace, "gpu"):
        return ", ".join(codes)
    return "GPU only"


def _errors(cell: Cell, workspace: Path, device: str) -> list[str]:
    spec = tiny.write_spec(workspace / "cell.toml", cell.text(device))
    found = analyse(spec, {}).diagnostics
    return sorted({item.code for item in found if item.level is Level.ERROR})
