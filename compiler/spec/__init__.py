"""The spec: one frozen class a section, exactly what the user wrote. No logic."""

from __future__ import annotations

from attrs import field

from .data import (
    AlpacaSource,
    CatalogSource,
    Data,
    MessagesSource,
    Mix,
    PreferenceSource,
    PromptSource,
    ShareGptSource,
    Source,
    TextSource,
    TooLong,
)
from .deepspeed import DeepSpeed, Offload, ZeroStage
from .engines import HyperParallel, KTransformers, Megatron
from .inference import (
    Export,
    ExportQuantization,
    Generation,
    Inference,
    SglangBackend,
    TransformersBackend,
    VllmBackend,
)
from .kinds import Hub, NumberFormat, Scalar, section
from .launch import HostFile, Kubernetes, Launch, Local, Ray, SkyPilot, Slurm
from .logging import (
    Logging,
    Mlflow,
    OtherTracker,
    Profiler,
    Push,
    SwanLab,
    TensorBoard,
    Tracker,
    Trackio,
    Wandb,
)
from .media import Media
from .method import (
    AdaLora,
    Boft,
    C3a,
    CordaInit,
    DefaultInit,
    EvaInit,
    FourierFt,
    Freeze,
    Full,
    Hra,
    Ia3,
    Lisa,
    LnTuning,
    LoftqInit,
    Loha,
    Lokr,
    Lora,
    LoraGaInit,
    LoraInit,
    Method,
    Miss,
    NormalInit,
    Oft,
    OloraInit,
    OrthogonalInit,
    PissaInit,
    Prefix,
    Prompt,
    PTuning,
    RandLora,
    Road,
    Shira,
    Targeted,
    Targets,
    VbLora,
    Vera,
)
from .model import (
    Adapters,
    Attention,
    DynamicRope,
    Kernels,
    LinearRope,
    Llama3Rope,
    Model,
    Rope,
    YarnRope,
)
from .objective import (
    AdapterReward,
    ApiReward,
    Asft,
    BcoLoss,
    Cpo,
    CrossEntropy,
    Dft,
    Dpo,
    Eaft,
    FunctionReward,
    Generator,
    Grpo,
    HingeLoss,
    IpoLoss,
    Kto,
    KtoPairLoss,
    ModelReference,
    ModelReward,
    Objective,
    Orpo,
    PolicyGenerator,
    Ppo,
    PrecomputedReference,
    Pretraining,
    Reference,
    Reward,
    RewardModel,
    RobustLoss,
    Sft,
    SigmoidLoss,
    SimPo,
    StartReference,
    VllmGenerator,
)
from .optimizer import (
    AdaFactor,
    AdamMini,
    AdamW,
    Apollo,
    BAdamLayer,
    BAdamRatio,
    Galore,
    Lion,
    Muon,
    Optimizer,
    OtherOptimizer,
    Sgd,
)
from .quantization import (
    BitsAndBytes,
    Eetq,
    Hqq,
    NoQuantization,
    Quantization,
    QuantizationAware,
    Quanto,
    TorchAo,
)
from .run import OnExisting, Run
from .tokenizer import (
    FileTemplate,
    NamedTemplate,
    Template,
    Tokenizer,
    TokenizerTemplate,
    ToolFormat,
)
from .training import Batch, ParameterGroup, Precision, Schedule, Training
from .upkeep import Benchmark, Checkpoints, Evaluation

__all__ = [
    "AdaFactor",
    "AdaLora",
    "AdamMini",
    "AdamW",
    "AdapterReward",
    "Adapters",
    "AlpacaSource",
    "ApiReward",
    "Apollo",
    "Asft",
    "Attention",
    "BAdamLayer",
    "BAdamRatio",
    "Batch",
    "BcoLoss",
    "Benchmark",
    "BitsAndBytes",
    "Boft",
    "C3a",
    "CatalogSource",
    "Checkpoints",
    "CordaInit",
    "Cpo",
    "CrossEntropy",
    "Data",
    "DeepSpeed",
    "DefaultInit",
    "Dft",
    "Dpo",
    "DynamicRope",
    "Eaft",
    "Eetq",
    "EvaInit",
    "Evaluation",
    "Export",
    "ExportQuantization",
    "FileTemplate",
    "FourierFt",
    "Freeze",
    "Full",
    "FunctionReward",
    "Galore",
    "Generation",
    "Generator",
    "Grpo",
    "HingeLoss",
    "HostFile",
    "Hqq",
    "Hra",
    "Hub",
    "HyperParallel",
    "Ia3",
    "Inference",
    "IpoLoss",
    "KTransformers",
    "Kernels",
    "Kto",
    "KtoPairLoss",
    "Kubernetes",
    "Launch",
    "LinearRope",
    "Lion",
    "Lisa",
    "Llama3Rope",
    "LnTuning",
    "Local",
    "LoftqInit",
    "Logging",
    "Loha",
    "Lokr",
    "Lora",
    "LoraGaInit",
    "LoraInit",
    "Media",
    "Megatron",
    "MessagesSource",
    "Method",
    "Miss",
    "Mix",
    "Mlflow",
    "Model",
    "ModelReference",
    "ModelReward",
    "Muon",
    "NamedTemplate",
    "NoQuantization",
    "NormalInit",
    "NumberFormat",
    "Objective",
    "Offload",
    "Oft",
    "OloraInit",
    "OnExisting",
    "Optimizer",
    "Orpo",
    "OrthogonalInit",
    "OtherOptimizer",
    "OtherTracker",
    "PTuning",
    "ParameterGroup",
    "PissaInit",
    "PolicyGenerator",
    "Ppo",
    "Precision",
    "PrecomputedReference",
    "PreferenceSource",
    "Prefix",
    "Pretraining",
    "Profiler",
    "Prompt",
    "PromptSource",
    "Push",
    "Quantization",
    "QuantizationAware",
    "Quanto",
    "RandLora",
    "Ray",
    "Reference",
    "Reward",
    "RewardModel",
    "Road",
    "RobustLoss",
    "Rope",
    "Run",
    "Scalar",
    "Schedule",
    "Sft",
    "Sgd",
    "SglangBackend",
    "ShareGptSource",
    "Shira",
    "SigmoidLoss",
    "SimPo",
    "SkyPilot",
    "Slurm",
    "Source",
    "Spec",
    "StartReference",
    "SwanLab",
    "Targeted",
    "Targets",
    "Template",
    "TensorBoard",
    "TextSource",
    "Tokenizer",
    "TokenizerTemplate",
    "TooLong",
    "ToolFormat",
    "TorchAo",
    "Tracker",
    "Trackio",
    "Training",
    "TransformersBackend",
    "VbLora",
    "Vera",
    "VllmBackend",
    "VllmGenerator",
    "Wandb",
    "YarnRope",
    "ZeroStage",
]


@section
class Spec:
    """A fine-tuning run as its author wrote it."""

    run: Run
    """The run as a whole."""

    model: Model
    """The model to adapt."""

    adapters: Adapters = field(factory=Adapters)
    """Adapters of an earlier training."""

    quantization: Quantization = field(factory=NoQuantization)
    """Fewer bits for the frozen weights."""

    quantization_aware: QuantizationAware | None = None
    """Training for a model that will be quantized."""

    tokenizer: Tokenizer = field(factory=Tokenizer)
    """The tokenizer that belongs to the model."""

    template: Template = field(factory=TokenizerTemplate)
    """How a conversation becomes text."""

    data: Data
    """The data sets and how rows become training samples."""

    media: Media = field(factory=Media)
    """Images, videos and sound."""

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

    kernels: Kernels = field(factory=Kernels)
    """Faster code for the same mathematics."""

    evaluation: Evaluation = field(factory=Evaluation)
    """When and how the model is evaluated."""

    benchmark: Benchmark | None = None
    """Multiple-choice benchmarks."""

    deepspeed: DeepSpeed = field(factory=DeepSpeed)
    """How state is spread over the processes."""

    megatron: Megatron | None = None
    """Megatron Bridge in place of DeepSpeed."""

    hyper_parallel: HyperParallel | None = None
    """HyperParallel in place of DeepSpeed."""

    ktransformers: KTransformers | None = None
    """Experts computed on the CPU."""

    launch: Launch = field(factory=Local)
    """Where the run happens."""

    checkpoints: Checkpoints = field(factory=Checkpoints)
    """What is kept to resume from."""

    logging: Logging = field(factory=Logging)
    """Numbers and pictures."""

    hub: Push | None = None
    """Sending the result to a model hub."""

    profiler: Profiler | None = None
    """Traces of where time goes."""

    generation: Generation = field(factory=Generation)
    """How `tunec chat` picks words."""

    inference: Inference = field(factory=TransformersBackend)
    """What `tunec chat` computes with."""

    export: Export = field(factory=Export)
    """How `tunec export` writes the merged model."""

    allow: dict[str, str] = field(factory=dict)
    """Warnings that are accepted: code to reason."""
