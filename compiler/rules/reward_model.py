"""What a reward model does not go with: settings of models that write texts."""

from __future__ import annotations

from collections.abc import Iterator

from ..diagnostics import Diagnostic, Label, SpecPath, error
from ..facts import Facts
from ..spec import Lora, LoraGaInit, RewardModel, Spec, Targeted
from .common import METHOD_TYPE, text_at
from .rule import Rule

TYPE = Label(("objective", "type"), "scores texts")


def check_writing(spec: Spec) -> Iterator[Diagnostic]:
    """A setting needs a model that writes, and a reward model gives each text one number.

    transformers computes no loss for the routers of a model that scores, and has no such class for models with
    mixture-of-depths; LoRA-GA starts from the gradients of the loss on words; a quantized model that was trained for
    is written as one that writes.

    Fails:
    ```toml
    [model]
    moe_aux_loss = 0.01
    [objective]
    type = "reward"
    [data]
    sources = [{ format = "preference", path = "data/pairs.jsonl" }]
    ```
    Passes:
    ```toml
    [objective]
    type = "reward"
    [data]
    sources = [{ format = "preference", path = "data/pairs.jsonl" }]
    ```
    """
    if not isinstance(spec.objective, RewardModel):
        return
    for path, words in _writing(spec):
        yield error("O130", f"a reward model does not go with {words}", path, labels=(TYPE,))


def _writing(spec: Spec) -> Iterator[tuple[SpecPath, str]]:
    if spec.model.moe_aux_loss is not None:
        yield ("model", "moe_aux_loss"), "a loss for routers"
    if spec.model.mixture_of_depths != "off":
        yield ("model", "mixture_of_depths"), "mixture-of-depths"
    if spec.quantization_aware is not None:
        yield ("quantization_aware", "type"), "quantization-aware training"
    if isinstance(spec.method, Lora) and isinstance(spec.method.init, LoraGaInit):
        yield ("method", "init"), "a start from gradients of words"


def check_continued(spec: Spec, facts: Facts) -> Iterator[Diagnostic]:
    """A reward model goes on with an adapter that has no head that scores.

    The head is trained and saved with the adapter. One of another training has none, so that the head would stay as
    it is drawn. Merged into the model, such an adapter is where a new one starts from.

    Fails:
    ```toml
    [adapters]
    paths = ["adapter"]
    then = "continue"
    [method]
    type = "lora"
    [objective]
    type = "reward"
    [data]
    sources = [{ format = "preference", path = "data/pairs.jsonl" }]
    ```
    Passes:
    ```toml
    [adapters]
    paths = ["adapter"]
    then = "new"
    [method]
    type = "lora"
    [objective]
    type = "reward"
    [data]
    sources = [{ format = "preference", path = "data/pairs.jsonl" }]
    ```
    """
    adapters = spec.adapters
    if not isinstance(spec.objective, RewardModel) or adapters.then != "continue":
        return
    path: SpecPath = ("adapters", "paths", len(adapters.paths) - 1)
    adapter = facts.adapters.get(path)
    if adapter is not None and adapter.state == "folder" and not adapter.has_score_head:
        yield error(
            "O131",
            f"`{text_at(spec, path)}` has no head that scores, so a reward model cannot go on with it",
            path,
            labels=(TYPE,),
            notes=("`modules_to_save` of its adapter_config.json does not name `score`",),
            helps=('merge it into the model: `[adapters] then = "new"`',),
        )


def check_kind(spec: Spec, facts: Facts) -> Iterator[Diagnostic]:
    """A reward adapter is of another kind than the adapter of the policy.

    Both stand on the same modules of one model, and PEFT puts adapters of one kind there.

    Fails:
    ```toml
    [method]
    type = "ia3"
    [objective]
    type = "ppo"
    reward = { type = "adapter", path = "reward" }
    [data]
    sources = [{ format = "prompt", path = "data/prompts.jsonl" }]
    ```
    Passes:
    ```toml
    [method]
    type = "lora"
    [objective]
    type = "ppo"
    reward = { type = "adapter", path = "reward" }
    [data]
    sources = [{ format = "prompt", path = "data/prompts.jsonl" }]
    ```
    """
    path: SpecPath = ("objective", "reward", "path")
    adapter = facts.adapters.get(path)
    is_adapter = isinstance(spec.method, Targeted)
    if adapter is None or adapter.kind is None or not is_adapter:
        return
    if adapter.kind != spec.method.type:
        yield error(
            "O132",
            f"the reward adapter is of kind `{adapter.kind}`, the policy is trained with `{spec.method.type}`",
            path,
            labels=(Label(METHOD_TYPE, "another kind"),),
            helps=(f'write `[method] type = "{adapter.kind}"`, or give a reward `model`',),
        )


RULES = (
    Rule("O130", "a model that scores", pure=check_writing),
    Rule("O131", "adapter without a score", factual=check_continued),
    Rule("O132", "reward adapter of another kind", factual=check_kind),
)
