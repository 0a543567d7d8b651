"""The settings all contestants share, and what each of them gives back. Standard library only."""

from __future__ import annotations

import json
import resource
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

LORA_ALPHA_PER_RANK = 2
"""tunec's default: the update is scaled by 2."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """One training, described without naming who runs it."""

    model: str
    """Folder of the model."""

    conversations: str
    """The samples as text: JSON Lines with `messages`."""

    tokens: str
    """The same samples as tokens: a JSON list of `{input_ids, labels}`."""

    length: int
    batch_size: int
    steps: int
    rank: int
    learning_rate: float
    max_grad_norm: float
    seed: int

    @property
    def num_samples(self) -> int:
        """Each sample is seen once."""
        return self.steps * self.batch_size

    @property
    def alpha(self) -> int:
        """LoRA's alpha."""
        return LORA_ALPHA_PER_RANK * self.rank

    def write(self, path: Path) -> None:
        """Store as JSON."""
        path.write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Settings:
        """Load what `write` stored."""
        return cls(**json.loads(path.read_text(encoding="utf-8")))

    def samples(self) -> list[dict[str, list[int]]]:
        """Return the tokenized samples."""
        found: list[dict[str, list[int]]] = json.loads(
            Path(self.tokens).read_text(encoding="utf-8")
        )
        return found


def step_done(step: int, steps: int, note: str = "") -> None:
    """Say that an optimizer step is over; the driver takes the time when the line arrives.

    tunec prints lines that begin the same way, so all are timed by one clock and one rule.
    """
    print(f"step {step}/{steps}  {note}", flush=True)


def write_result(path: Path, *, losses: list[float], **more: Any) -> None:
    """Store what a contestant knows about itself at the end of its training."""
    peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    path.write_text(json.dumps({"losses": losses, "peak_bytes": peak_bytes, **more}))
