"""Write a model that was trained for it in few bits; then prove that what was written computes as in training."""

from __future__ import annotations

import gc
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any, Literal

import torch

from ..models.fake_quantization import Kind, fake_quantize, quantized_config
from ..models.folder import display, open_staging
from ..models.load import DTYPES, Base, Dtype, load_causal_lm, load_tokenizer, stored_dtype
from ..models.parts import auto_class
from ..models.saved import changed, save_tokenizer
from ..models.variants import load_trained, whole
from ..session import program
from ..storage import disk_errors, gib, replace_directory
from .export import (
    PROBE,
    _check_same,
    _check_target,
    _check_tokenizer,
    _distance,
    _logits,
    _options,
    _size,
)


def export_quantized(
    *,
    base: Base,
    trained: Path,
    output: Path,
    kind: Kind,
    group_size: int,
    dtype: Literal["same", "fp32", "bf16", "fp16"],
    max_shard_gib: float,
    packages: Collection[str] = (),
) -> None:
    """Write the quantized model to `output`, with the configuration by which transformers and torchao load it.

    `dtype` is the number format of scales, embeddings, norms and head. The logits of the quantized model are those that
    training computed with; the model that is read back from the files must have the same.

    Raises:
        UserError: (as one line) nothing was trained, `output` exists, the disk is full, or a comparison fails.
    """
    options = _options()
    with program(packages=packages):
        target = output if options.output is None else Path(options.output).absolute()
        _check_target(target, (Path(base.path), trained), overwrite=options.overwrite)
        chosen: Dtype = stored_dtype(base) if dtype == "same" else dtype
        print("loading the trained model", flush=True)
        plain = load_trained(trained, base=base, method="full", dtype=chosen).eval()
        tokenizer = load_tokenizer(trained)
        probe = tokenizer(PROBE, return_tensors="pt", add_special_tokens=False)["input_ids"]
        expected = _logits(fake_quantize(plain, kind=kind, group_size=group_size), probe)
        size = _size(plain, chosen)
        del plain
        gc.collect()
        model = _quantized(trained, kind, group_size, chosen)
        found = _logits(model, probe)
        _check_same(
            "the quantized model differs from the one that training computed with", found, expected
        )
        staging = open_staging(target)
        try:
            with disk_errors("the quantized model", target.parent, needed=size):
                model.save_pretrained(str(staging), max_shard_size=int(max_shard_gib * 2**30))
                save_tokenizer(staging, tokenizer, model, trained=trained)
            del model
            written = _logits(load_causal_lm(whole(base, staging), dtype=chosen).eval(), probe)
            _check_same("the written model differs from the quantized one", written, found)
            _check_tokenizer(changed(staging, tokenizer))
            replace_directory(staging, target)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
        print(
            f"largest difference of logits to the model in training: {_distance(written, expected):.1e}",
            flush=True,
        )
        total = sum(file.stat().st_size for file in target.iterdir())
        print(f"wrote {display(target)} ({gib(total)}, {kind}, the rest {chosen})", flush=True)


def _quantized(trained: Path, kind: Kind, group_size: int, dtype: Dtype) -> Any:
    from transformers import AutoConfig, TorchAoConfig

    place = str(trained)
    model = auto_class(AutoConfig.from_pretrained(place)).from_pretrained(
        place,
        dtype=DTYPES[dtype],
        quantization_config=TorchAoConfig(quantized_config(kind, group_size)),
        use_safetensors=True,
    )
    assert isinstance(model, torch.nn.Module)
    return model.eval()
