"""`[generation]`, `[inference]` and `[export]`: what happens with the trained model."""

from __future__ import annotations

from typing import Literal

from attrs import field

from .kinds import NumberFormat, Scalar, section


@section
class Generation:
    """How `tunec chat` picks words, and PPO and GRPO draw answers."""

    sample: bool = True
    """Draw from the likeliest tokens; `false` always takes the likeliest."""

    max_new_tokens: int = 512
    """Most tokens of an answer."""

    max_length: int | None = None
    """Most tokens of prompt and answer together, instead of `max_new_tokens`."""

    temperature: float = 0.7
    """Randomness: 0 always takes the likeliest token."""

    top_p: float = 0.9
    """Pick only among the likeliest tokens that reach this probability together."""

    top_k: int | None = None
    """Pick only among this many likeliest tokens. Default: the model's own setting; 0 switches it off."""

    num_beams: int = 1
    """Beams of beam search."""

    repetition_penalty: float = 1.0
    """Above 1, tokens already used become less likely."""

    length_penalty: float = 1.0
    """Exponent of the length in beam search."""

    skip_special_tokens: bool = True
    """Leave special tokens out of the text."""

    kv_cache: bool = True
    """Keep keys and values of earlier tokens."""

    system: str | None = None
    """System prompt of the chat. Default: the template's own."""


@section
class _Backend:
    """What every backend can be told."""

    dtype: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Number format of weights and activations; `auto`: that of the model's files."""


@section
class TransformersBackend(_Backend):
    """transformers, on any device."""

    type: Literal["transformers"] = "transformers"
    """`transformers`: the library the model was trained with."""

    device_map: Literal["single", "auto"] = "single"
    """Put the model on one device, or spread it over all (`auto`)."""

    offload_dir: str = "offload"
    """Folder for weights that fit nowhere else, relative to the spec."""


@section
class VllmBackend(_Backend):
    """vLLM."""

    type: Literal["vllm"]
    """`vllm`: a fast engine for GPUs."""

    max_length: int = 4096
    """Most tokens of prompt and answer together."""

    memory_share: float = 0.7
    """Share of GPU memory it may take."""

    eager: bool = False
    """Do without CUDA graphs."""

    max_adapter_rank: int = 32
    """Largest rank of an adapter."""

    options: dict[str, Scalar] = field(factory=dict)
    """Further options of the engine."""


@section
class SglangBackend(_Backend):
    """SGLang."""

    type: Literal["sglang"]
    """`sglang`: a fast engine for GPUs."""

    max_length: int = 4096
    """Most tokens of prompt and answer together."""

    memory_share: float = 0.7
    """Share of GPU memory for weights and cache."""

    tensor_parallel: int | None = None
    """GPUs that share each layer. Default: all."""

    adapter_backend: Literal["triton", "flashinfer"] = "triton"
    """Kernels for adapters."""

    options: dict[str, Scalar] = field(factory=dict)
    """Further options of the engine."""


Inference = TransformersBackend | VllmBackend | SglangBackend


@section
class ExportQuantization:
    """GPTQ (Frantar et al. 2022, arXiv:2210.17323) of the merged model."""

    bits: Literal[2, 3, 4, 8]
    """Bits of a weight."""

    data: str
    """File or hub id of the calibration texts, with a column `text`."""

    samples: int = 128
    """Texts used."""

    max_length: int = 1024
    """Tokens of each text."""


@section
class Export:
    """How `tunec export` writes the merged model."""

    output_dir: str | None = None
    """Folder of the merged model, relative to the spec. Default: `merged` in the run folder."""

    dtype: Literal["same"] | NumberFormat = "same"
    """Number format of the merged weights; `same`: that of the base model's files."""

    max_shard_gib: float = 5.0
    """Largest safetensors file."""

    device: Literal["cpu", "auto"] = "cpu"
    """Where the merge is computed."""

    quantization: ExportQuantization | None = None
    """Quantize the merged model."""

    push: str | None = None
    """Repository on the hub to push the result to, as `owner/name`."""

    ollama: bool = False
    """Write a Modelfile for Ollama as well."""
