"""Our side: every case by the runtime's objectives.

.venv/bin/python benchmarks/parity/ours.py FOLDER OUT.json
"""

# The scripts of this folder are no package.
# mypy: disable-error-code="import-not-found"

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from cases import BETA, IGNORED, LABELS, PREFERENCES, measured, read_batch
from online_ours import online
from peft import PeftModel
from reward_ours import rewards
from transformers import LlamaForCausalLM

from tunec.runtime.data.layouts import Collator
from tunec.runtime.data.samples import Sample
from tunec.runtime.objectives import AdapterOff, Cpo, Dpo, Kto, Orpo, SimPo

NAMES = ("chosen_reward", "rejected_reward", "margin", "accuracy", "chosen_log_prob", "rejected_log_prob", "kl")  # fmt: skip


def main(folder: Path, out: Path) -> None:
    """Compute all cases."""
    found = {}
    for case, settings in PREFERENCES.items():
        model = PeftModel.from_pretrained(
            LlamaForCausalLM.from_pretrained(folder / "model"),
            folder / "adapter",
            is_trainable=True,
        )
        found[case] = preference(model, folder, dict(settings))
    out.write_text(json.dumps({**found, **rewards(folder), **online(folder)}))


def preference(model: Any, folder: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """Return the loss, its gradients and what is measured beside it."""
    name = settings.pop("batch")
    kinds: dict[str, Any] = {"simpo": SimPo, "cpo": Cpo, "orpo": Orpo}
    kind = kinds.get(settings.pop("objective", ""), Kto if name == "judged" else Dpo)
    reference = {"reference": AdapterOff()} if kind in (Dpo, Kto) else {}
    objective = kind(beta=BETA, **reference, **settings)
    objective.attach(model)
    samples = []
    for number, row in enumerate(read_batch(folder, name)):
        chosen, rejected = (answered(row["prompt"], row[side]) for side in ("chosen", "rejected"))
        value = float(LABELS[number]) if name == "judged" else None
        samples.append(Sample(chosen.input_ids, chosen.labels, rejected=rejected, value=value))
    batch = Collator(pad_token_id=2)(samples)
    if name == "judged":
        with torch.no_grad():
            objective.look_ahead(model, [batch], lambda tensor: None)
    loss = objective.loss_sum(model, batch) / objective.num_items(batch)
    means = objective.tally.means(objective.tally.take(torch.device("cpu")))
    return measured(loss, model, **{name: means[name] for name in NAMES if name in means})


def answered(prompt: list[int], answer: list[int]) -> Sample:
    """Return a prompt with an answer that carries loss."""
    return Sample([*prompt, *answer], [*[IGNORED] * len(prompt), *answer])


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
