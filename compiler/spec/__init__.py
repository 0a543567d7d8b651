"""The spec: one frozen class a section, exactly what the user wrote. No logic."""

from __future__ import annotations

from attrs import field, frozen

from .data import AlpacaSource, Data, MessagesSource, Source
from .deepspeed import DeepSpeed
from .inference import Export, Generation
from .launch import Launch, Local
from .method import Full, Lora, Method
from .model import Model
from .objective import Objective, Sft
from .run import OnExisting, Run
from .tokenizer import FileTemplate, Template, Tokenizer, TokenizerTemplate
from .training import AdamW, Batch, Optimizer, Training
from .upkeep import Checkpoints, Evaluation, Logging

__all__ = [
    "AdamW",
    "AlpacaSource",
    "Batch",
    "Checkpoints",
    "Data",
    "DeepSpeed",
    "Evaluation",
    "Export",
    "FileTemplate",
    "Full",
    "Generation",
    "Launch",
    "Local",
    "Logging",
    "Lora",
    "MessagesSource",
    "Method",
    "Model",
    "Objective",
    "OnExisting",
    "Optimizer",
    "Run",
    "Sft",
    "Source",
    "Spec",
    "Template",
    "Tokenizer",
    "TokenizerTemplate",
    "Training",
]


@frozen(kw_only=True)
class Spec:
    """A fine-tuning run as its author wrote it."""

    run: Run
    """The run as a whole."""

    model: Model
    """The model to adapt."""

    tokenizer: Tokenizer = field(factory=Tokenizer)
    """The tokenizer that belongs to the model."""

    template: Template = field(factory=TokenizerTemplate)
    """How a conversation becomes text."""

    data: Data
    """The data sets and how rows become training samples."""

    method: Method
    """Which parameters are trained."""

    objective: Objective = field(factory=Sft)
    """What is minimised."""

    training: Training = field(factory=Training)
    """Length, rate and numerics of the training."""

    optimizer: Optimizer = field(factory=AdamW)
    """The update rule."""

    batch: Batch
    """Batch arithmetic."""

    evaluation: Evaluation = field(factory=Evaluation)
    """When the evaluation loss is measured."""

    deepspeed: DeepSpeed = field(factory=DeepSpeed)
    """How state is spread over the processes."""

    launch: Launch = field(factory=Local)
    """Where the run happens."""

    checkpoints: Checkpoints = field(factory=Checkpoints)
    """What is kept to resume from."""

    logging: Logging = field(factory=Logging)
    """Numbers and pictures."""

    generation: Generation = field(factory=Generation)
    """How `tunec chat` picks words."""

    export: Export = field(factory=Export)
    """How `tunec export` writes the merged model."""
