"""`[objective]`: what is minimised."""

from __future__ import annotations

from typing import Literal

from attrs import field

from .kinds import section
from .quantization import NoQuantization, Quantization

# What the policy is compared with.


@section
class StartReference:
    """The model as the run got it, earlier adapters included."""

    type: Literal["start"] = "start"
    """`start`: the policy before its first step; with adapters it needs no second copy."""


@section
class ModelReference:
    """Another model."""

    type: Literal["model"]
    """`model`: a model of its own, kept in memory."""

    path: str
    """Folder or hub id of the reference model."""

    adapters: tuple[str, ...] = ()
    """Adapters merged into it."""

    quantization: Quantization = field(factory=NoQuantization)
    """How its weights are quantized."""


@section
class PrecomputedReference:
    """Log-probabilities of the starting policy, computed once before training."""

    type: Literal["precomputed"]
    """`precomputed`: no reference model is in memory while training."""


Reference = StartReference | ModelReference | PrecomputedReference

# Pretraining and SFT.


@section
class Pretraining:
    """Next-token cross-entropy on plain text."""

    type: Literal["pretraining"]
    """`pretraining`: learn to continue the texts in the data."""

    label_smoothing: float = 0.0
    """Probability spread over all tokens instead of the right one."""


@section
class CrossEntropy:
    """The usual loss."""

    type: Literal["cross-entropy"] = "cross-entropy"
    """`cross-entropy`: mean over all trained tokens of a step."""

    label_smoothing: float = 0.0
    """Probability spread over all tokens instead of the right one."""


@section
class Dft:
    """Dynamic fine-tuning (Wu et al. 2025, arXiv:2508.05629)."""

    type: Literal["dft"]
    """`dft`: each token's loss is weighted by its own probability."""


@section
class Asft:
    """Anchored supervised fine-tuning: DFT with a KL anchor (arXiv:2509.23753)."""

    type: Literal["asft"]
    """`asft`: DFT, held near a reference."""

    alpha: float = 0.1
    """Weight of the KL divergence from the reference."""

    reference: Reference = field(factory=StartReference)
    """What the policy is held near."""


@section
class Eaft:
    """Entropy-adaptive fine-tuning (arXiv:2601.02151)."""

    type: Literal["eaft"]
    """`eaft`: each token's loss is weighted by the entropy of the prediction."""

    alpha: float = 1.0
    """Exponent of the weight."""


@section
class Sft:
    """Supervised fine-tuning: next-token cross-entropy on the answers."""

    type: Literal["sft"] = "sft"
    """`sft`: learn to give the answers in the data."""

    loss_on: Literal["assistant", "last", "all"] = "assistant"
    """Tokens that carry loss: those of the `assistant` (each turn and its end mark), of its `last` turn, or `all`.
    Answers with `train = false` never do."""

    loss_on_thoughts: bool = True
    """Thoughts carry loss like the rest of an answer. `false`: the answer is learned, and not how it was found."""

    loss: CrossEntropy | Dft | Asft | Eaft = field(factory=CrossEntropy)
    """How the loss of a token counts."""


# Preferences.


@section
class RewardModel:
    """A reward model: pairwise logistic loss on a head that scores (Ouyang et al. 2022, arXiv:2203.02155)."""

    type: Literal["reward"]
    """`reward`: learn to score the better answer higher."""

    center: float = 0.0
    """Weight of the squared sum of scores, which keeps them around zero."""


@section
class SigmoidLoss:
    """The loss of DPO; with label smoothing that of cDPO."""

    type: Literal["sigmoid"] = "sigmoid"
    """`sigmoid`: DPO."""

    label_smoothing: float = 0.0
    """Assumed share of pairs labelled the wrong way round."""


@section
class HingeLoss:
    """SLiC's hinge (arXiv:2305.10425)."""

    type: Literal["hinge"]
    """`hinge`: no loss beyond a margin."""


@section
class IpoLoss:
    """IPO (Azar et al. 2023, arXiv:2310.12036)."""

    type: Literal["ipo"]
    """`ipo`: squared distance from a margin."""


@section
class KtoPairLoss:
    """KTO's loss on pairs."""

    type: Literal["kto-pair"]
    """`kto-pair`: each answer against the mean of all answers of the other kind in the step."""


@section
class RobustLoss:
    """Robust DPO (arXiv:2403.00409)."""

    type: Literal["robust"]
    """`robust`: unbiased under label noise."""

    label_smoothing: float = 0.1
    """Assumed share of pairs labelled the wrong way round."""


@section
class BcoLoss:
    """Binary classifier optimization (arXiv:2404.04656)."""

    type: Literal["bco"]
    """`bco`: each answer by itself against the mean of all rewards so far."""


@section
class Dpo:
    """Direct preference optimization (Rafailov et al. 2023, arXiv:2305.18290)."""

    type: Literal["dpo"]
    """`dpo`: prefer the chosen answer, measured against a reference."""

    loss: SigmoidLoss | HingeLoss | IpoLoss | KtoPairLoss | RobustLoss | BcoLoss = field(
        factory=SigmoidLoss
    )
    """Kind of loss on the margin."""

    beta: float = 0.1
    """How closely the policy is held to the reference."""

    sft_weight: float = 0.0
    """Weight of the SFT loss on chosen answers, added to the loss."""

    bco_weight: float = 0.0
    """Weight w of the BCO loss, mixed in: (loss + w * BCO) / (1 + w)."""

    ld_alpha: float | None = None
    """LD-DPO (arXiv:2409.06411): weight of the tokens by which the longer answer is longer."""

    reference: Reference = field(factory=StartReference)
    """What the policy is compared with."""


@section
class Orpo:
    """ORPO, without a reference (Hong et al. 2024, arXiv:2403.07691)."""

    type: Literal["orpo"]
    """`orpo`: SFT and odds ratio in one."""

    beta: float = 0.1
    """Weight of the odds ratio."""

    sft_weight: float = 0.0
    """Weight of a further SFT loss on chosen answers."""


@section
class SimPo:
    """SimPO, without a reference (Meng et al. 2024, arXiv:2405.14734)."""

    type: Literal["simpo"]
    """`simpo`: margins of mean log-probabilities."""

    beta: float = 2.0
    """Scale of the margin."""

    gamma: float = 0.5
    """Margin of rewards that is asked for; a reward is `beta` times the mean log-probability of an answer's tokens."""

    label_smoothing: float = 0.0
    """Assumed share of pairs labelled the wrong way round."""

    sft_weight: float = 0.0
    """Weight of the SFT loss on chosen answers, added to the loss."""


@section
class Cpo:
    """CPO, without a reference (Xu et al. 2024, arXiv:2401.08417)."""

    type: Literal["cpo"]
    """`cpo`: margins of log-probabilities, and SFT."""

    beta: float = 0.1
    """Scale of the margin."""

    label_smoothing: float = 0.0
    """Assumed share of pairs labelled the wrong way round."""

    sft_weight: float = 1.0
    """Weight of the SFT loss on chosen answers."""


@section
class Kto:
    """Kahneman-Tversky optimization (Ethayarajh et al. 2024, arXiv:2402.01306)."""

    type: Literal["kto"]
    """`kto`: learn from single answers marked good or bad."""

    beta: float = 0.1
    """How closely the policy is held to the reference."""

    desirable_weight: float = 1.0
    """Weight of good answers."""

    undesirable_weight: float = 1.0
    """Weight of bad answers."""

    sft_weight: float = 0.0
    """Weight of the SFT loss on good answers, added to the loss."""

    reference: Reference = field(factory=StartReference)
    """What the policy is compared with."""


# Online methods.


@section
class AdapterReward:
    """A reward adapter on the policy's own model."""

    type: Literal["adapter"]
    """`adapter`: needs no second model; the policy is trained by an adapter as well."""

    path: str
    """Folder of the reward adapter and its head that scores."""


@section
class ModelReward:
    """A reward model of its own."""

    type: Literal["model"]
    """`model`: a reward model, kept in memory."""

    path: str
    """Folder or hub id of the reward model."""

    adapters: tuple[str, ...] = ()
    """Adapters merged into it."""

    quantization: Quantization = field(factory=NoQuantization)
    """How its weights are quantized."""

    weight: float = 1.0
    """Weight among several rewards."""


@section
class ApiReward:
    """A server that scores texts."""

    type: Literal["api"]
    """`api`: ask a server over HTTP."""

    url: str
    """Address, starting with `http://` or `https://`."""

    timeout_s: float = 60.0
    """Seconds an answer may take."""

    retries: int = 5
    """Attempts after a failure, each later than the one before."""

    token_env: str | None = None
    """Name of the environment variable with the bearer token."""

    weight: float = 1.0
    """Weight among several rewards."""


@section
class FunctionReward:
    """A Python function of your own."""

    type: Literal["function"]
    """`function`: call a function with prompts and answers."""

    path: str
    """The Python file, relative to the spec. It is named in the plan, and runs with your rights."""

    name: str = "reward"
    """Name of the function."""

    weight: float = 1.0
    """Weight among several rewards."""


Reward = FunctionReward | ApiReward | ModelReward | AdapterReward


@section
class PolicyGenerator:
    """The policy itself."""

    type: Literal["policy"] = "policy"
    """`policy`: the model that is trained answers, by transformers, on any device."""


@section
class VllmGenerator:
    """A vLLM server, which is given the policy before each rollout (GPU)."""

    type: Literal["vllm"]
    """`vllm`: a server that you start; it must see the run folder at the same path."""

    url: str
    """Its address without `/v1`, starting with `http://` or `https://`."""

    connections: int = 64
    """Answers that are asked for at the same time."""

    timeout_s: float = 120.0
    """Seconds an answer may take."""

    retries: int = 5
    """Attempts after a failure, each later than the one before."""

    token_env: str | None = None
    """Name of the environment variable with its API key."""


Generator = PolicyGenerator | VllmGenerator


@section
class Ppo:
    """Proximal policy optimization (Schulman et al. 2017, arXiv:1707.06347) on a reward."""

    type: Literal["ppo"]
    """`ppo`: generate, score, and move towards higher rewards."""

    reward: Reward
    """Where rewards come from."""

    generator: Generator = field(factory=PolicyGenerator)
    """What makes the answers."""

    reference: Reference = field(factory=StartReference)
    """What the policy is held near."""

    buffer_batches: int = 1
    """Mini-batches of experience gathered before each update."""

    epochs: int = 4
    """Passes over them."""

    kl_target: float = 6.0
    """KL divergence that the adaptive penalty aims at."""

    kl_start: float = 0.2
    """Penalty at the start."""

    whiten_rewards: bool = False
    """Whiten rewards before advantages are computed."""

    normalize_scores: bool = False
    """Scale scores by their running mean and deviation."""

    clip: float = 0.2
    """Clipping of the policy's ratio."""

    value_clip: float = 0.2
    """Clipping of the value's change."""

    value_weight: float = 0.1
    """Weight of the value loss."""

    discount: float = 1.0
    """Discount of later rewards."""

    gae_lambda: float = 0.95
    """Lambda of generalised advantage estimation (arXiv:1506.02438)."""


@section
class Grpo:
    """Group relative policy optimization (Shao et al. 2024, arXiv:2402.03300)."""

    type: Literal["grpo"]
    """`grpo`: compare several answers to each prompt."""

    rewards: tuple[FunctionReward | ApiReward | ModelReward, ...]
    """Where rewards come from."""

    loss: Literal["grpo", "dr-grpo", "dapo", "gspo"] = "grpo"
    """Kind of loss: `grpo`, `dr-grpo` (arXiv:2503.20783), `dapo` (arXiv:2503.14476), `gspo` (arXiv:2507.18071)."""

    group_size: int = 8
    """Answers to a prompt."""

    beta: float = 0.0
    """Weight of the KL divergence from the reference."""

    clip_low: float = 0.2
    """Clipping of the ratio below 1."""

    clip_high: float = 0.2
    """Clipping of the ratio above 1."""

    updates: int = 1
    """Optimizer steps on each batch of answers."""

    generator: Generator = field(factory=PolicyGenerator)
    """What makes the answers."""

    reference: Reference = field(factory=StartReference)
    """What the policy is held near."""


Objective = Sft | Pretraining | RewardModel | Dpo | Orpo | SimPo | Cpo | Kto | Ppo | Grpo
