"""Models and tokenizers: loading, adapters, import."""

from .adapters import (
    Merged,
    add_adalora,
    add_boft,
    add_ia3,
    add_loha,
    add_lokr,
    add_lora,
    add_oft,
    add_prefix,
    add_prompt,
    add_vera,
    continue_adapter,
    first_batches,
    start_from_loss,
    text_ids,
    token_ids,
)
from .blocks import train_blocks
from .fake_quantization import fake_quantize
from .fp8 import use_fp8
from .importer import fetch_program
from .load import Base, load_causal_lm, load_tokenizer, train_all
from .quantization import BitsAndBytes, Eetq, Hqq, Quanto, TorchAo
from .structure import (
    Rope,
    add_embedding_noise,
    compile_blocks,
    offload_activations,
    set_numerics,
    use_liger,
    watch_overflow,
)
from .structure.expand import expand_program
from .vocabulary import NewRows

__all__ = [
    "Base",
    "BitsAndBytes",
    "Eetq",
    "Hqq",
    "Merged",
    "NewRows",
    "Quanto",
    "Rope",
    "TorchAo",
    "add_adalora",
    "add_boft",
    "add_embedding_noise",
    "add_ia3",
    "add_loha",
    "add_lokr",
    "add_lora",
    "add_oft",
    "add_prefix",
    "add_prompt",
    "add_vera",
    "compile_blocks",
    "continue_adapter",
    "expand_program",
    "fake_quantize",
    "fetch_program",
    "first_batches",
    "load_causal_lm",
    "load_tokenizer",
    "offload_activations",
    "set_numerics",
    "start_from_loss",
    "text_ids",
    "token_ids",
    "train_all",
    "train_blocks",
    "use_fp8",
    "use_liger",
    "watch_overflow",
]
