"""Tokens and masks of every chat template against LLaMA-Factory's own encoder, on the reference conversations.

    python3 -m venv /tmp/venv-lf && /tmp/venv-lf/bin/pip install llamafactory "torch==2.13.0"
    .venv/bin/python benchmarks/template_parity.py --llamafactory /tmp/venv-lf

The conversations are those of `tests/chat/talks.py`. Each difference is sorted under a reason; what no reason explains
is shown, and the exit code is 1.
"""

# mypy finds the helpers of the tests and the peer nowhere.
# mypy: disable-error-code="import-not-found"

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

from bench import REPO, WORK, table

sys.path.insert(0, str(REPO / "tests"))

from chat.encoder import Encoder
from chat.rendering import section
from chat.slots import slots
from chat.talks import Talk, written
from chat.test_reference import BOS, EOS, OPTIONS, all_marks, conversation, fitting, grown

from tunec.compiler.chat import build, describe, library
from tunec.runtime import models
from tunec.runtime.data.sequences import encoded

Sample = tuple[list[int], list[int]]
"""Tokens and labels; -100 is a token without loss."""
ROLES = {"user": "user", "assistant": "assistant", "tool": "observation"}


def main() -> int:
    """Encode with both, compare, and print the table."""
    parser = argparse.ArgumentParser(description="Compare chat templates with LLaMA-Factory's.")
    parser.add_argument("--llamafactory", type=Path, required=True, help="its virtual environment")
    parser.add_argument("--tokenizer", type=Path, default=REPO / "models/smollm2-135m")
    options = parser.parse_args()
    folder = WORK / "template_parity"
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = grown(models.load_tokenizer(options.tokenizer), [BOS, EOS, *all_marks()])
    tokenizer.save_pretrained(folder / "tokenizer")
    chosen = {name: [talk for talk in fitting(name) if _fits(talk)] for name in library()}
    theirs = _theirs(options.llamafactory, folder, chosen)
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    equal = total = 0
    for name, samples in theirs.items():
        for talk, ours, peer in zip(
            chosen[name], _ours(tokenizer, name, chosen[name]), samples, strict=True
        ):
            total += 1
            reasons = _reasons(tokenizer, name, talk, ours, peer)
            equal += not reasons
            for reason in reasons:
                counts[reason][name] += 1
    print(
        f"{len(theirs)} templates, {total:,} conversations encoded by both, {equal:,} of them equal\n"
    )
    rows = [
        [reason, str(found.total()), _named(found)]
        for reason, found in sorted(counts.items(), key=lambda item: -item[1].total())
    ]
    print(table(["difference", "conversations", "templates"], rows))
    return int(any(reason.startswith("UNEXPLAINED") for reason in counts))


def _named(found: Counter[str]) -> str:
    return ", ".join(sorted(found)) if len(found) <= 8 else f"{len(found)} templates"


def _fits(talk: Talk) -> bool:
    """LLaMA-Factory's data have no words beside a call, no place of its own for a thought, and join results."""
    beside = any(m.get("tool_calls") and m["content"] for m in talk.messages)
    return not beside and not any(message.get("apart") for message in talk.messages)


def _theirs(
    venv: Path, folder: Path, chosen: dict[str, list[Talk]]
) -> dict[str, list[Sample | str]]:
    given = {
        "tokenizer": str(folder / "tokenizer"),
        "talks": {
            name: [_for_peer(name, talk) for talk in talks] for name, talks in chosen.items()
        },
    }
    (folder / "given.json").write_text(json.dumps(given), encoding="utf-8")
    script = REPO / "benchmarks/template_parity_peer.py"
    command = [venv / "bin/python", script, folder / "given.json", folder / "found.json"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    found: dict[str, list[Sample | str]] = json.loads((folder / "found.json").read_text())
    return found


def _for_peer(name: str, talk: Talk) -> dict[str, Any]:
    """Return a talk in the peer's own form, as its converter makes it."""
    messages = written(talk, slots(name).thought)
    system = messages[0]["content"] if messages[0]["role"] == "system" else ""
    turns = [message for message in messages if message["role"] != "system"]
    found = []
    for is_tool, group in groupby(turns, key=lambda message: message["role"] == "tool"):
        listed = list(group)
        if is_tool:
            joined = "\n</tool_response>\n<tool_response>\n".join(m["content"] for m in listed)
            found.append({"role": "observation", "content": joined})
            continue
        for message in listed:
            calls = [call["function"] for call in message.get("tool_calls", ())]
            role = "function" if calls else ROLES[message["role"]]
            content = json.dumps(calls, ensure_ascii=False) if calls else message["content"]
            found.append({"role": role, "content": content})
    tools = json.dumps([tool["function"] for tool in talk.tools], ensure_ascii=False)
    return {"messages": found, "system": system, "tools": tools if talk.tools else ""}


def _ours(tokenizer: Any, name: str, talks: Sequence[Talk]) -> list[Sample]:
    """The peer trains the thoughts of earlier turns, too."""
    options = section(name, keep_thoughts=library()[name].is_reasoning)
    tokenizer.chat_template = build(options)
    tokenizer.eos_token = describe(options).eos_token or EOS
    found = encoded(tokenizer, [conversation(talk, name) for talk in talks], OPTIONS)
    return [
        (sample.tokens.tolist(), [int(t) if on else -100 for t, on in zip(sample.tokens, sample.loss, strict=True)])
        for (sample,) in found
    ]  # fmt: skip


def _reasons(tokenizer: Any, name: str, talk: Talk, ours: Sample, peer: Sample | str) -> list[str]:
    """Return why the two differ; nothing where they do not."""
    if isinstance(peer, str):
        return [f"the peer fails: {peer.partition(':')[0]}"]
    if ours == tuple(peer):
        return []
    texts = [tokenizer.decode(sample[0]) for sample in (ours, peer)]
    if texts[0] != texts[1]:
        return [_why_text(name, talk)]
    found = []
    if ours[0] != peer[0]:
        found.append("turns are cut apart: a token reaches over a border of prompt and answer")
        ours = _in_pieces(tokenizer, name, talk)
    odd = any(label not in (-100, token) for token, label in zip(*peer, strict=True))
    if odd:
        found.append("EOS is the label of the next turn's first token")
    both = [_learned(tokenizer, sample) for sample in (ours, peer)]
    if both[0] == both[1] or odd:
        return found
    same = "".join("".join(both[0]).split()) == "".join("".join(both[1]).split())
    reason = MASKS.get(name, f"UNEXPLAINED mask of {name}")
    return [*found, "white space after the end mark is learned" if same else reason]


def _in_pieces(tokenizer: Any, name: str, talk: Talk) -> Sample:
    """Return what the table of slots says, with the text cut where the learned pieces begin and end."""
    known = slots(name)
    options = section(name, keep_thoughts=library()[name].is_reasoning)
    text, spans = Encoder(known, options).encode(written(talk, known.thought), talk.tools)
    eos = describe(options).eos_token if "{{eos}}" in known.assistant else None
    edges = [0, *(edge for span in spans for edge in span), len(text)]
    tokens: list[int] = []
    labels: list[int] = []
    for number, (start, end) in enumerate(pairwise(edges)):
        piece = text[start:end].replace(EOS, eos or EOS)
        ids = tokenizer(piece, add_special_tokens=False)["input_ids"]
        tokens += ids
        labels += ids if number % 2 else [-100] * len(ids)
    return tokens, labels


def _learned(tokenizer: Any, sample: Sample) -> list[str]:
    runs = groupby(
        zip(*sample, strict=True), key=lambda pair: pair[1] != -100 and pair[1] == pair[0]
    )
    return [tokenizer.decode([token for token, _ in run]) for is_learned, run in runs if is_learned]


TEXTS = {
    "gpt_oss": "earlier answers end with nothing",
    "phi_small": "the prefix is lost",
    "minimax2": "its slots of this release lack `[e~[`, which later ones have",
    "chatglm3": "`sop` is taken by its number, and the tokenizer has no such token",
    **dict.fromkeys(
        ("glm4_moe", "glm4v", "glm4_5v", "glm4_7", "glmz1", "aeva", "ernie_vl"),
        "an empty thought stands before the answer's first characters",
    ),
}
TOOLS = {
    "llama3": "the tools are told with today's date",
    "glm4_moe": "calls are not closed",
    "minimax2": "calls stand without `<minimax:tool_call>`",
    "lfm2": "quotes in the text of a call are not escaped",
    "gemma4": "the marks of declarations stand around calls, and a call has no end",
}
"""By tool format."""
NAMED = {
    "granite4": "after a result, `assistant` lacks `<|end_of_role|>`",
    "seed_oss": "a call opens the assistant's turn a second time",
    "youtu": "a call has no end",
    "phi4_mini": "the tools are escaped as JSON in JSON",
}
MASKS = {
    "ernie_vl": "the role mark is learned",
    "hy_dense_1_8b": "the role mark is learned",
    # Where a question happens to begin with that very token.
    "fewshot": "EOS is the label of the next turn's first token",
}


def _why_text(name: str, talk: Talk) -> str:
    """What is told here is told with its reason in docs/chat_templates.md."""
    if name in TEXTS:
        return TEXTS[name]
    if talk.tools and name in NAMED:
        return NAMED[name]
    if talk.tools and slots(name).tool_format in TOOLS:
        return TOOLS[slots(name).tool_format]
    if talk.most_calls > 1:
        return "several results are joined with `</tool_response>` in every template"
    return f"UNEXPLAINED text of {name}"


if __name__ == "__main__":
    sys.exit(main())
