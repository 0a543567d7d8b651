"""The trainers whose configurations can be imported: a line each, and how they are told apart."""

from __future__ import annotations

from collections.abc import Collection
from importlib import import_module

from attrs import frozen

from .placing import Import


@frozen
class Dialect:
    """A trainer: its name, the module whose `import_run` reads it, and keys that only it has."""

    title: str
    module: str
    marks: frozenset[str]

    def import_run(self, work: Import) -> None:
        """Fill the draft of an import."""
        import_module(f".{self.module}", __package__).import_run(work)


DIALECTS = {
    "llamafactory": Dialect(
        "LLaMA-Factory",
        "llamafactory.run",
        frozenset(
            {
                *("stage", "finetuning_type", "template", "dataset", "dataset_dir", "cutoff_len"),
                *(
                    "lora_rank",
                    "lora_target",
                    "export_dir",
                    "infer_backend",
                    "adapter_name_or_path",
                ),
                *("preprocessing_num_workers", "overwrite_cache", "plot_loss", "val_size"),
            }
        ),
    ),
    "axolotl": Dialect(
        "Axolotl",
        "axolotl",
        frozenset(
            {
                *("base_model", "datasets", "sequence_len", "sample_packing", "adapter", "lora_r"),
                *("micro_batch_size", "num_epochs", "lr_scheduler", "val_set_size", "optimizer"),
                *("train_on_inputs", "lora_target_modules", "lora_target_linear", "rl"),
            }
        ),
    ),
    "trl": Dialect(
        "TRL",
        "trl",
        frozenset(
            {
                *(
                    "dataset_name",
                    "dataset_train_split",
                    "dataset_test_split",
                    "dataset_text_field",
                ),
                *(
                    "max_seq_length",
                    "use_peft",
                    "lora_r",
                    "lora_target_modules",
                    "attn_implementation",
                ),
                *("assistant_only_loss", "completion_only_loss", "dataset_config", "loss_type"),
            }
        ),
    ),
}
"""Name on the command line to trainer; the first wins where several are as likely."""


def detect(names: Collection[str]) -> str:
    """Return the trainer that most of the names belong to."""
    known = {name: len(dialect.marks & set(names)) for name, dialect in DIALECTS.items()}
    return max(known, key=lambda name: known[name])
