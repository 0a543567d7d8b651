"""Objectives: one module each, a loss as a pure function of tensors."""

from .base import Objective
from .dpo import Dpo
from .frozen import FrozenModel
from .grpo import Grpo
from .kto import Kto
from .online import Sampling
from .ppo import Ppo
from .precomputed import Precomputed
from .pretraining import Pretraining
from .reference_free import Cpo, Orpo, SimPo
from .references import AdapterAtStart, AdapterOff
from .reward import RewardModel
from .sft import Sft
from .token_losses import Asft, Dft, Eaft, LabelSmoothing
from .vllm_server import VllmServer

__all__ = [
    "AdapterAtStart",
    "AdapterOff",
    "Asft",
    "Cpo",
    "Dft",
    "Dpo",
    "Eaft",
    "FrozenModel",
    "Grpo",
    "Kto",
    "LabelSmoothing",
    "Objective",
    "Orpo",
    "Ppo",
    "Precomputed",
    "Pretraining",
    "RewardModel",
    "Sampling",
    "Sft",
    "SimPo",
    "VllmServer",
]
