"""Models and tokenizers: loading, adapters, import."""

from .adapters import add_lora
from .importer import fetch_program
from .load import Base, load_causal_lm, load_tokenizer, train_all

__all__ = ["Base", "add_lora", "fetch_program", "load_causal_lm", "load_tokenizer", "train_all"]
