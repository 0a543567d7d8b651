"""Objectives: one module each, a loss as a pure function of tensors."""

from .base import Objective
from .dpo import Dpo
from .kto import Kto
from .pretraining import Pretraining
from .reference_free import Cpo, Orpo, SimPo
from .references import AdapterOff
from .sft import Sft

__all__ = [
    "AdapterOff",
    "Cpo",
    "Dpo",
    "Kto",
    "Objective",
    "Orpo",
    "Pretraining",
    "Sft",
    "SimPo",
]
