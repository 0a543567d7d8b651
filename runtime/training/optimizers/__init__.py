"""Optimizers: what the generated program says becomes groups of parameters and an update rule."""

from .adam import AdamMini, AdamW
from .badam import BAdam, BAdamRatio
from .base import Optimizer
from .lora_plus import LoraPlus
from .muon import Muon
from .named import Named
from .parameter_groups import ParameterGroup
from .projected import Apollo, Galore
from .simple import AdaFactor, Lion, Sgd

__all__ = [
    "AdaFactor",
    "AdamMini",
    "AdamW",
    "Apollo",
    "BAdam",
    "BAdamRatio",
    "Galore",
    "Lion",
    "LoraPlus",
    "Muon",
    "Named",
    "Optimizer",
    "ParameterGroup",
    "Sgd",
]
