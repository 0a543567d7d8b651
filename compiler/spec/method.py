"""`[method]`: which parameters are trained."""

from __future__ import annotations

from typing import Literal

from attrs import field

from .kinds import section

Targets = Literal["all-linear"] | tuple[str, ...]


@section
class Full:
    """All parameters."""

    type: Literal["full"]
    """`full`: train every parameter."""


@section
class Freeze:
    """Some blocks, all else frozen."""

    type: Literal["freeze"]
    """`freeze`: train some of the model's blocks."""

    blocks: int = 2
    """Number of transformer blocks to train."""

    side: Literal["last", "first"] = "last"
    """Whether the `last` or the `first` blocks are trained."""

    modules: Literal["all"] | tuple[str, ...] = "all"
    """Modules of those blocks to train, such as `["mlp", "self_attn"]`."""

    extra_modules: tuple[str, ...] = ()
    """Modules outside of the blocks to train as well, such as `["embed_tokens"]`."""

    expanded: bool = False
    """LLaMA-Pro (Wu et al. 2024, arXiv:2401.02415): train the blocks that block expansion (`tunec expand`) added,
    `blocks` of them, evenly spread."""


@section
class DefaultInit:
    """The usual initialisation: A uniform (Kaiming), B zero."""

    type: Literal["default"] = "default"
    """`default`: the update starts at zero."""


@section
class NormalInit:
    """A normal, B zero."""

    type: Literal["gaussian"]
    """`gaussian`: the update starts at zero."""


@section
class PissaInit:
    """PiSSA: the principal singular vectors (Meng et al. 2024, arXiv:2404.02948)."""

    type: Literal["pissa"]
    """`pissa`: the adapter starts as the weights' principal part, which leaves the frozen weights."""

    iterations: int = 16
    """Iterations of the fast singular value decomposition."""

    exact: bool = False
    """Compute the exact decomposition instead, which is slow."""

    convert: bool = True
    """Write the result as an ordinary LoRA adapter of the original weights, of twice the rank. Otherwise whoever loads
    it computes the decomposition again, which must be the `exact` one."""


@section
class OloraInit:
    """OLoRA: QR decomposition (Büyükakyüz 2024, arXiv:2406.01775)."""

    type: Literal["olora"]
    """`olora`: the adapter starts orthonormal."""


@section
class EvaInit:
    """EVA: singular vectors of the activations (Paischer et al. 2024, arXiv:2410.07170)."""

    type: Literal["eva"]
    """`eva`: the adapter starts from a pass over some data; ranks go where variance is."""

    rho: float = 2.0
    """Most times the rank a module may get."""

    batches: int = 16
    """Batches of training data looked at."""


@section
class CordaInit:
    """CorDA: context-oriented decomposition (Yang et al. 2024, arXiv:2406.05223)."""

    type: Literal["corda"]
    """`corda`: the adapter starts from weights and the covariance of activations."""

    mode: Literal["knowledge", "instruction"] = "instruction"
    """`knowledge`: preserve what the model knows; `instruction`: learn the task faster."""

    batches: int = 16
    """Batches of training data looked at."""


@section
class OrthogonalInit:
    """Orthogonal: A and B from odd and even rows of one orthogonal matrix, so that their product is zero."""

    type: Literal["orthogonal"]
    """`orthogonal`: the update starts at zero, A and B do not. The rank must be even."""


@section
class LoraGaInit:
    """LoRA-GA: singular vectors of the gradients (Wang et al. 2024, arXiv:2407.05000)."""

    type: Literal["lora-ga"]
    """`lora-ga`: the first step goes where that of full training would; the frozen weights give up what it starts from."""

    batches: int = 16
    """Batches of training data whose gradients are averaged."""

    direction: Literal["a-first", "b-first", "alternating", "random"] = "a-first"
    """Which of the first 2 x rank singular vectors A gets: the first half (B the second), the second half (`b-first`), or
    every second one. `random` gives both the same ones."""

    scale: Literal["stable", "gradient", "weights", "none"] = "stable"
    """How large they start: `stable` by the width and `gamma`, `gradient` as large as a step of gradient descent,
    `weights` as the singular values of the weights, `none` as they are."""

    gamma: float = 16.0
    """Divides what `stable` scales: the larger, the smaller the start."""


@section
class LoftqInit:
    """LoftQ: the adapter takes up the quantization error (Li et al. 2023, arXiv:2310.08659)."""

    type: Literal["loftq"]
    """`loftq`: the adapter starts from what `[quantization]` loses. The weights are loaded once more as they are, for
    as long as that takes."""

    iterations: int = 1
    """Alternating steps. After the first, the paper rounds other weights than those of the model's files, which no
    program could load: only 1 runs."""


LoraInit = (
    DefaultInit
    | NormalInit
    | OrthogonalInit
    | PissaInit
    | OloraInit
    | EvaInit
    | CordaInit
    | LoraGaInit
    | LoftqInit
)


@section
class _Adapter:
    """What every adapter method can be told."""

    targets: Targets = "all-linear"
    """Modules that get an adapter: `all-linear` (every linear layer but the output head), or a list of names
    such as `["q_proj", "v_proj"]`."""

    layers: tuple[int, ...] = ()
    """Numbers of the blocks that get adapters, from 0. Default: all."""

    full_modules: tuple[str, ...] = ()
    """Modules trained in full and saved with the adapter, such as `["embed_tokens", "lm_head"]`."""


@section
class _Everywhere:
    """What a method can be told that adapts modules of all blocks."""

    targets: Targets = "all-linear"
    """Modules that get an adapter: `all-linear` (every linear layer but the output head), or a list of names
    such as `["q_proj", "v_proj"]`."""

    full_modules: tuple[str, ...] = ()
    """Modules trained in full and saved with the adapter, such as `["embed_tokens", "lm_head"]`."""


@section
class Lora(_Adapter):
    """Low-rank adapters (Hu et al. 2021, arXiv:2106.09685) beside frozen weights."""

    type: Literal["lora"]
    """`lora`: train low-rank adapters, keep the model frozen."""

    rank: int = 8
    """Inner dimension of the adapters."""

    alpha: float | None = None
    """Scale of the adapters: the update is multiplied by `alpha / rank`. Default: twice the rank."""

    dropout: float = 0.0
    """Dropout on the adapters' input."""

    rank_stabilized: bool = False
    """Scale by `alpha / sqrt(rank)` instead (rsLoRA, Kalajdzievski 2023, arXiv:2312.03732)."""

    dora: bool = False
    """Learn magnitude and direction apart (DoRA, Liu et al. 2024, arXiv:2402.09353)."""

    init: LoraInit = field(factory=DefaultInit)
    """What the adapters start from."""

    bias: Literal["none", "all", "lora-only"] = "none"
    """Biases that are trained: `none`, `all` of the model, or those of adapted modules."""

    b_rate_ratio: float | None = None
    """LoRA+ (Hayou et al. 2024, arXiv:2402.12354): learning rate of B over that of A."""

    embedding_rate: float = 1e-6
    """LoRA+: learning rate of adapters on embeddings."""

    freeze_a: bool = False
    """LoRA-FA (Zhang et al. 2023, arXiv:2308.03303): train B only."""

    rank_pattern: dict[str, int] = field(factory=dict)
    """Ranks of their own for modules whose name matches a regular expression."""

    alpha_pattern: dict[str, float] = field(factory=dict)
    """Scales of their own for modules whose name matches a regular expression."""

    parameters: tuple[str, ...] = ()
    """Bare parameters that get an adapter, such as the stacked weights of experts."""

    trainable_tokens: tuple[str, ...] = ()
    """Tokens whose embeddings are trained, and only theirs."""

    expanded_blocks: int | None = None
    """LLaMA-Pro (arXiv:2401.02415): adapt only the blocks that block expansion (`tunec expand`) added, this many."""


@section
class Oft(_Adapter):
    """Orthogonal fine-tuning (Qiu et al. 2023, arXiv:2306.07280)."""

    type: Literal["oft"]
    """`oft`: rotate the weights in blocks."""

    block_size: int | None = None
    """Size of a block. Default: 32, when `num_blocks` is not given. Excludes `num_blocks`."""

    num_blocks: int | None = None
    """Number of blocks. Excludes `block_size`."""

    dropout: float = 0.0
    """Share of blocks left out in a step."""


@section
class Boft(_Adapter):
    """Butterfly orthogonal fine-tuning (Liu et al. 2023, arXiv:2311.06243)."""

    type: Literal["boft"]
    """`boft`: rotations as products of sparse ones."""

    block_size: int = 4
    """Size of a block."""

    factors: int = 1
    """Number of butterfly factors."""

    dropout: float = 0.0
    """Share of blocks left out in a step."""


@section
class Ia3(_Adapter):
    """(IA)³: learned scales of activations (Liu et al. 2022, arXiv:2205.05638)."""

    type: Literal["ia3"]
    """`ia3`: train one vector a module."""

    feedforward: tuple[str, ...] = ()
    """Targets that are feed-forward layers, whose input is scaled. Default: those of the model's family."""


@section
class AdaLora(_Adapter):
    """AdaLoRA: ranks that move to where they help (Zhang et al. 2023, arXiv:2303.10512)."""

    type: Literal["adalora"]
    """`adalora`: adapters with a budget of ranks."""

    rank: int = 8
    """Mean rank at the end."""

    initial_rank: int = 12
    """Rank at the start."""

    alpha: float | None = None
    """Scale. Default: twice the rank."""

    dropout: float = 0.0
    """Dropout on the adapters' input."""

    warmup_steps: int = 0
    """Steps before ranks begin to go."""

    final_steps: int = 0
    """Steps at the end with fixed ranks."""

    interval: int = 1
    """Steps between two decisions."""


@section
class Vera(_Adapter):
    """VeRA: shared random matrices, trained scales (Kopiczko et al. 2023, arXiv:2310.11454)."""

    type: Literal["vera"]
    """`vera`: train two vectors a module."""

    rank: int = 256
    """Inner dimension."""

    dropout: float = 0.0
    """Dropout on the adapters' input."""


@section
class Loha(_Adapter):
    """LoHa: Hadamard product of two low-rank updates (arXiv:2108.06098)."""

    type: Literal["loha"]
    """`loha`: products of low-rank matrices."""

    rank: int = 8
    """Inner dimension."""

    alpha: float | None = None
    """Scale. Default: the rank."""

    dropout: float = 0.0
    """Share of updates left out."""


@section
class Lokr(_Adapter):
    """LoKr: Kronecker product of small matrices (arXiv:2212.10650)."""

    type: Literal["lokr"]
    """`lokr`: Kronecker products."""

    rank: int = 8
    """Inner dimension."""

    alpha: float | None = None
    """Scale. Default: the rank."""

    dropout: float = 0.0
    """Share of updates left out."""


@section
class FourierFt(_Adapter):
    """FourierFT: a few coefficients of the update's spectrum (Gao et al. 2024, arXiv:2405.03003)."""

    type: Literal["fourierft"]
    """`fourierft`: train frequencies of the update, at random places."""

    frequencies: int = 1000
    """Trained frequencies of a module."""

    scale: float = 150.0
    """The update is multiplied by this."""

    seed: int = 777
    """Seed of the places, which are the same in modules of one shape."""

    start: Literal["normal", "zero"] = "normal"
    """Coefficients at the start: drawn, as in the paper, or `zero`, so that training starts from the model as it was."""


@section
class Hra(_Adapter):
    """HRA: Householder reflections (Yuan et al. 2024, arXiv:2405.17484)."""

    type: Literal["hra"]
    """`hra`: mirror the inputs at trained planes."""

    rank: int = 8
    """Number of reflections. It is even: they start as pairs of equal ones, which undo each other."""


@section
class RandLora(_Adapter):
    """RandLoRA: trained scales of random bases, of full rank (Albert et al. 2025, arXiv:2502.00987)."""

    type: Literal["randlora"]
    """`randlora`: train how random low-rank matrices are added up."""

    rank: int = 32
    """Rank of one random matrix; the smaller, the more are added and trained."""

    alpha: float | None = None
    """Scale of the update, which is multiplied by `alpha / rank`. Default: 20 times the rank."""

    dropout: float = 0.0
    """Dropout on the adapters' input."""

    sparsity: Literal["none", "sparse", "very-sparse"] = "none"
    """Whether the random matrices consist of -1, 0 and 1: a third of them not zero, or few."""


@section
class Miss(_Adapter):
    """MiSS, once Bone: shards of the inputs share one matrix (Kang and Yin 2024, arXiv:2409.15371)."""

    type: Literal["miss"]
    """`miss`: cut the inputs into shards, add them up, train what they are multiplied by."""

    rank: int = 64
    """Width of a shard."""

    dropout: float = 0.0
    """Dropout on the adapters' input."""

    variant: Literal["standard", "bat", "mini"] = "standard"
    """`bat`: blocks of the weights are multiplied as well, which costs time. `mini`: outputs share numbers too."""

    mini_rank: int = 1
    """Outputs of `mini` that have numbers of their own."""


@section
class Shira(_Everywhere):
    """SHiRA: a few of the weights, at random places (Bhardwaj et al. 2024, arXiv:2406.13175)."""

    type: Literal["shira"]
    """`shira`: train a sparse update of high rank."""

    rank: int = 32
    """A layer gets as many numbers as a LoRA adapter of this rank has; the update's rank is not limited by it."""

    seed: int = 0
    """Seed of the places, which are the same in layers of one shape."""


@section
class C3a(_Adapter):
    """C3A: circular convolution of blocks (Chen et al. 2024, arXiv:2407.19342)."""

    type: Literal["c3a"]
    """`c3a`: train the first row of each circulant block of the update."""

    block_size: int = 256
    """Size of a block. It divides inputs and outputs of every adapted layer."""

    start: Literal["xavier", "kaiming", "normal", "zero"] = "xavier"
    """Kernels at the start: drawn, or `zero`, so that training starts from the model as it was."""


@section
class LnTuning:
    """LN tuning: normalisation layers only (Zhao et al. 2023, arXiv:2312.11420)."""

    type: Literal["ln-tuning"]
    """`ln-tuning`: train a copy of normalisation layers, keep all else frozen."""

    norms: Literal["all"] | tuple[str, ...] = "all"
    """Layers to train: `all`, or a list of names such as `["input_layernorm", "norm"]`."""

    full_modules: tuple[str, ...] = ()
    """Modules trained in full and saved with them, such as `["embed_tokens", "lm_head"]`."""


@section
class Road(_Everywhere):
    """RoAd: rotate and scale pairs of outputs (Liao and Monz 2024, arXiv:2409.00119)."""

    type: Literal["road"]
    """`road`: train angles and scales of outputs."""

    variant: Literal[1, 2, 4] = 1
    """Angles and scales of a pair: one shared by all four entries of its rotation, two, or four."""

    group_size: int = 64
    """Outputs that are paired among themselves, the first half with the second. It is even, divides the outputs of every
    adapted layer, and changes nothing but speed."""


@section
class VbLora(_Adapter):
    """VB-LoRA: adapters made of vectors from one bank (Li et al. 2024, arXiv:2405.15179)."""

    type: Literal["vblora"]
    """`vblora`: train a bank of vectors that all modules share, and which of them each part takes."""

    rank: int = 4
    """Inner dimension of the adapters."""

    num_vectors: int = 256
    """Vectors in the bank."""

    vector_length: int = 256
    """Length of a vector. It divides inputs and outputs of every adapted layer."""

    top_k: int = 2
    """Vectors that are mixed into one part."""

    dropout: float = 0.0
    """Dropout on the adapters' input."""

    bank_bound: float = 0.02
    """The bank starts uniform between minus this and this."""

    logits_std: float = 0.1
    """Standard deviation of the choices at the start."""


@section
class Prefix:
    """Prefix tuning (Li and Liang 2021, arXiv:2101.00190)."""

    type: Literal["prefix"]
    """`prefix`: train keys and values of virtual tokens."""

    num_tokens: int = 20
    """Virtual tokens."""

    projection: bool = False
    """Make them by a small network."""


@section
class Prompt:
    """Prompt tuning (Lester et al. 2021, arXiv:2104.08691)."""

    type: Literal["prompt"]
    """`prompt`: train embeddings of virtual tokens."""

    num_tokens: int = 20
    """Virtual tokens."""

    text: str | None = None
    """Text whose embeddings they start from. Default: random."""


@section
class PTuning:
    """P-tuning: a prompt made by a small network (Liu et al. 2021, arXiv:2103.10385)."""

    type: Literal["p-tuning"]
    """`p-tuning`: train virtual tokens and a network behind them; what it makes is saved."""

    num_tokens: int = 20
    """Virtual tokens."""

    network: Literal["mlp", "lstm"] = "mlp"
    """The network: three layers, or an LSTM in both directions with two layers behind it."""

    hidden_size: int | None = None
    """Width of the network. Default: that of the model."""

    num_layers: int = 2
    """Layers of the LSTM."""

    dropout: float = 0.0
    """Dropout between layers of the LSTM."""


@section
class Lisa:
    """LISA: a few random blocks at a time (Pan et al. 2024, arXiv:2403.17919)."""

    type: Literal["lisa"]
    """`lisa`: train embeddings, head and a changing sample of blocks."""

    blocks: int = 2
    """Blocks trained at a time."""

    interval: int = 20
    """Steps between two samples."""


Targeted = (
    Lora
    | Oft
    | Boft
    | Ia3
    | AdaLora
    | Vera
    | Loha
    | Lokr
    | FourierFt
    | Hra
    | RandLora
    | Miss
    | Shira
    | C3a
    | Road
    | VbLora
)
"""Methods that put something beside modules, which `targets` names."""

Method = Lora | Full | Freeze | Targeted | LnTuning | Prefix | Prompt | PTuning | Lisa
