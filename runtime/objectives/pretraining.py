"""Pretraining: cross-entropy on every token of plain texts."""

from __future__ import annotations

from .sft import Sft


class Pretraining(Sft):
    """Next-token cross-entropy, as for answers: in texts all tokens have labels."""
