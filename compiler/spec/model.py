"""`[model]`, `[adapters]` and `[kernels]`: the weights to start from, and the code that computes with them."""

from __future__ import annotations

from typing import Literal

from attrs import field

from .kinds import Hub, section

Attention = Literal["auto", "eager", "sdpa", "flash2", "flash3", "flex"]


@section
class LinearRope:
    """Positions divided by a factor (Chen et al. 2023, arXiv:2306.15595)."""

    type: Literal["linear"]
    """`linear`: position interpolation."""

    factor: float | None = None
    """How many times longer the context becomes. Default: what `data.max_length` needs."""


@section
class DynamicRope:
    """NTK-aware scaling that grows with the length of the text."""

    type: Literal["dynamic"]
    """`dynamic`: the base grows with the text; meant for inference more than for training."""

    factor: float | None = None
    """How many times longer the context becomes. Default: what `data.max_length` needs."""


@section
class YarnRope:
    """YaRN (Peng et al. 2023, arXiv:2309.00071)."""

    type: Literal["yarn"]
    """`yarn`: high frequencies stay, low ones are interpolated."""

    factor: float | None = None
    """How many times longer the context becomes. Default: what `data.max_length` needs."""

    beta_fast: float = 32.0
    """Rotations above which a frequency stays as it is."""

    beta_slow: float = 1.0
    """Rotations below which a frequency is interpolated in full."""


@section
class Llama3Rope:
    """The scaling of Llama 3.1."""

    type: Literal["llama3"]
    """`llama3`: three bands of frequencies."""

    factor: float | None = None
    """How many times longer the context becomes. Default: what `data.max_length` needs."""

    low_freq_factor: float = 1.0
    """Frequencies with a wavelength above the old length divided by this are divided by `factor`."""

    high_freq_factor: float = 4.0
    """Frequencies with a wavelength below the old length divided by this stay as they are."""


Rope = LinearRope | DynamicRope | YarnRope | Llama3Rope


@section
class Model:
    """The model to adapt."""

    path: str
    """Folder in the Hugging Face layout (relative to the spec), or a hub id such as `org/name`.
    A GGUF file becomes such a folder with `tunec fetch`."""

    hub: Hub = "huggingface"
    """Hub that an id belongs to: `huggingface`, `modelscope` or `modelers`."""

    revision: str | None = None
    """Branch, tag or commit of a hub model. A commit keeps the run repeatable."""

    cache_dir: str | None = None
    """Folder that keeps downloaded models, relative to the spec. Default: the hub client's own."""

    token_env: str | None = None
    """Name of the environment variable that holds the hub token. The token itself never stands in a spec."""

    trust_remote_code: bool = False
    """Run Python code shipped inside the model's repository. Leave this off unless you have read that code."""

    init: Literal["pretrained", "random"] = "pretrained"
    """`pretrained` weights, or `random` ones made from the model's configuration (training from scratch)."""

    allow_pickle: bool = False
    """Load `.bin` weights where there are no safetensors. They are read without running code."""

    low_memory_loading: bool = True
    """Fill the model tensor by tensor instead of building it twice; transformers 5 knows no other way."""

    attention: Attention = "auto"
    """Attention implementation: `auto` (what transformers picks for the model), `eager`, `sdpa`,
    `flash2`, `flash3` or `flex`."""

    shifted_attention: bool = False
    """Shifted sparse attention of LongLoRA (Chen et al. 2023, arXiv:2309.12307), for models of the Llama family."""

    rope: Rope | None = None
    """Stretch rotary positions for texts longer than the model was made for."""

    mixture_of_depths: Literal["off", "convert", "load"] = "off"
    """Mixture-of-Depths (Raposo et al. 2024, arXiv:2404.02258): `convert` a model of the
    Llama family, or `load` a converted one, which only tunec can load."""

    moe_aux_loss: float | None = None
    """Weight of the router's load-balancing loss in mixture-of-experts models. Default: as the model's configuration
    says. Evaluations are without it."""

    fp32_norms: bool = False
    """Keep the weights of normalisation layers in fp32."""

    fp32_logits: bool = False
    """Compute the output head's result in fp32."""


@section
class Adapters:
    """Adapters of an earlier training, put on the model before this one."""

    paths: tuple[str, ...] = ()
    """Folders (relative to the spec) or hub ids of adapters, in the order they apply."""

    subfolder: str | None = None
    """Folder inside each of them that holds the weights."""

    then: Literal["continue", "new"] = "continue"
    """`continue`: all but the last are merged and training goes on with the last one;
    `new`: all are merged, and training starts afresh from there, by any method."""

    combine: Literal["merge", "linear", "svd", "ties", "dare"] = "merge"
    """`merge` one after the other, or combine them into one: weighted sum (`linear`), its low-rank form (`svd`),
    TIES (arXiv:2306.01708) or DARE (arXiv:2311.03099), which keep half of the numbers."""

    weights: tuple[float, ...] = ()
    """Weight of each adapter in a combination. Default: 1 each."""


@section
class Kernels:
    """Faster code for the same mathematics."""

    liger: bool = False
    """Liger's Triton kernels (GPU)."""

    liger_ops: dict[str, bool] = field(factory=dict)
    """Liger kernels to switch one by one, such as `rope = true`."""

    unsloth: bool = False
    """Unsloth's model code (GPU)."""

    npu: bool = False
    """Fused kernels of Ascend NPUs."""

    compile: bool = False
    """Compile the model with `torch.compile`."""

    compile_backend: str | None = None
    """Backend of `torch.compile`. Default: inductor."""

    compile_mode: Literal["default", "reduce-overhead", "max-autotune"] = "default"
    """What `torch.compile` optimises for."""
