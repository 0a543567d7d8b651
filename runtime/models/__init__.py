"""Models and tokenizers: loading, adapters, counting."""

from .adapters import add_lora
from .load import load_causal_lm, load_tokenizer, train_all

__all__ = ["add_lora", "load_causal_lm", "load_tokenizer", "train_all"]
