"""Answers by a vLLM server, against a server on this machine that speaks its API."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
import vllm
from safetensors.torch import load_file, save_file

import inprocess
import runs
from tunec.runtime import json_server
from tunec.runtime.errors import UserError
from tunec.runtime.objectives import Sampling, VllmServer
from tunec.runtime.objectives.vllm_server import Drawn

REWARDS = "def reward(answers):\n    return [float(answer.count('e')) for answer in answers]\n"
SPEC = """
[data]
max_length = 64
sources = [{ format = "prompt", path = "data/prompts.jsonl" }]
eval_sources = [{ format = "prompt", path = "data/prompts.jsonl" }]
[training]
steps = 4
learning_rate = 1e-2
precision = "fp32"
gradient_checkpointing = false
[batch]
global_size = 8
micro_size = 4
[generation]
max_new_tokens = 6
temperature = 0.8
top_p = 1.0
[logging]
every_steps = 1
"""
GRPO = """
[objective]
type = "grpo"
group_size = 4
rewards = [{ type = "function", path = "rewards.py" }]
"""
PPO = """
[objective]
type = "ppo"
reward = { type = "function", path = "rewards.py" }
epochs = 2
"""
LORA, FULL = '[method]\ntype = "lora"\nrank = 4\n', '[method]\ntype = "full"\n'
SAMPLING = Sampling(max_new_tokens=4)


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """A folder with a model, prompts and a reward."""
    folder = inprocess.make_room(tmp_path_factory.mktemp("vllm"), tiny_model)
    rows = [{"prompt": f"Say {n}." + " Please." * (n % 3)} for n in range(6)]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "data" / "prompts.jsonl").write_text(text)
    (folder / "rewards.py").write_text(REWARDS)
    return folder


def made(
    room: Path, name: str, objective: str, method: str, url: str | None, more: str = ""
) -> Path:
    """Compile a run and prepare its data."""
    if url is not None:
        objective += f'generator = {{ type = "vllm", url = "{url}"{more} }}\n'
    run_dir = inprocess.compiled(room, objective + SPEC + method, name)
    inprocess.prepare(run_dir)
    return run_dir


def numbers(run_dir: Path) -> list[dict[str, Any]]:
    """Return the metrics that do not tell who answered, or how fast."""
    other = ("tokens_per_s", "generator_gap", "eval_generator_gap")
    return [{k: v for k, v in row.items() if k not in other} for row in runs.metrics(run_dir)]


@pytest.mark.parametrize(
    ("name", "objective", "method"),
    [("grpo-lora", GRPO, LORA), ("grpo-full", GRPO, FULL), ("ppo-full", PPO, FULL)],
)
def test_it_answers_as_the_policy_does(room: Path, name: str, objective: str, method: str) -> None:
    """With the seeds it is given, a run is the same to the last number of its metrics as one that answers itself."""
    itself = made(room, f"{name}-itself", objective, method, None)
    inprocess.train(itself)
    with vllm.serving(vllm.StandIn(room / "model")) as served:
        asked = made(room, name, objective, method, served.url)
        inprocess.train(asked)
    for one, other in zip(numbers(asked), numbers(itself), strict=True):
        assert one == pytest.approx(other, rel=1e-5, abs=1e-6)
    gaps = [row["generator_gap"] for row in runs.metrics(asked) if "generator_gap" in row]
    # Each rollout is answered by the weights of its own step: they move by far more than this.
    assert len(gaps) == (4 if objective == GRPO else 2)
    assert max(gaps) < 1e-4
    assert served.adapters == {}
    assert not (asked / "policy").exists()
    loads = [
        path for path, _ in served.asked if path in ("/v1/load_lora_adapter", "/collective_rpc")
    ]
    assert len(loads) == len(gaps) + 1


def test_an_evaluation_at_the_start_is_answered(room: Path) -> None:
    """A server is given the policy for each evaluation as well."""
    more = "[evaluation]\nat_start = true\n"
    with vllm.serving(vllm.StandIn(room / "model")) as served:
        run_dir = made(room, "start", GRPO, LORA + more, served.url)
        inprocess.train(run_dir)
    assert [row["step"] for row in runs.metrics(run_dir) if "eval_reward" in row] == [0, 4]


def test_a_server_with_another_model_ends_the_run(room: Path, tmp_path: Path) -> None:
    """Its log-probabilities tell: no step is made on answers of a stranger."""
    other = Path(shutil.copytree(room / "model", tmp_path / "other"))
    weights = load_file(other / "model.safetensors")
    torch.manual_seed(0)
    strange = {name: torch.randn_like(value) for name, value in weights.items()}
    save_file(strange, other / "model.safetensors", {"format": "pt"})
    with vllm.serving(vllm.StandIn(other)) as served:
        run_dir = made(room, "stranger", GRPO, LORA, served.url)
        with pytest.raises(
            UserError, match=r"has another model: its log-probabilities are \d+\.\d\d a token"
        ) as said:
            inprocess.train(run_dir)
    assert "`model.path`" in said.value.help
    assert not (run_dir / "policy").exists()
    assert served.adapters == {}


def test_a_server_without_room_is_refused(room: Path) -> None:
    """The longest prompt with the longest answer must fit; it is said before anything is generated."""
    with vllm.serving(vllm.StandIn(room / "model", room=12)) as served:
        run_dir = made(room, "room", GRPO, LORA, served.url)
        with pytest.raises(
            UserError, match="has room for 12 tokens, the longest prompt with its answer has"
        ):
            inprocess.train(run_dir)
    assert [path for path, _ in served.asked] == ["/v1/models"]


def attached(url: str, folder: Path, **options: Any) -> VllmServer:
    """Return a server that was asked who it is."""
    server = VllmServer(url, retries=0, timeout_s=5.0, **options)
    server.attach(folder / "policy", is_adapter=True, longest=10)
    return server


def nothing(folder: Path) -> None:
    """Write no policy."""
    folder.mkdir(parents=True)


class Scripted(vllm.StandIn):
    """Replies to some paths as it is told."""

    def __init__(self, **replies: tuple[int, Any]) -> None:
        """Take replies by the last part of the path."""
        self.replies, self.asked, self.token = replies, [], None
        self.lock = threading.Lock()

    def reply(self, path: str, told: Any) -> tuple[int, Any]:
        """Return what was scripted."""
        self.asked.append((path, told))
        models = {"data": [{"id": "base", "parent": None}]}
        return self.replies.get(path.rpartition("/")[2], (200, models))


def completion(**changes: Any) -> dict[str, Any]:
    """Return a completion of two tokens."""
    logprobs = {"token_logprobs": [-0.5, -1.5]}
    choice = {"token_ids": [5, 6], "logprobs": logprobs, "finish_reason": "length", **changes}
    return {"choices": [choice]}


def answer(server: VllmServer) -> list[Drawn]:
    """Ask for one answer."""
    return server.answer([[1, 2]], sampling=SAMPLING, seeds=[3], ends=frozenset([9, 2]))


@pytest.mark.parametrize(
    ("reply", "drawn"),
    [
        (completion(), Drawn([5, 6], [-0.5, -1.5])),
        (completion(token_ids=[5, 9, 7]), Drawn([5, 9], [-0.5, -1.5])),
        (completion(finish_reason="stop", stop_reason=9), Drawn([5, 6, 9], [-0.5, -1.5])),
        (completion(token_ids=[], finish_reason="stop", stop_reason=None), Drawn([2], [-0.5])),
        (
            completion(logprobs={"token_logprobs": [None, float("-inf")]}),
            Drawn([5, 6], [-100.0, -100.0]),
        ),
    ],
)
def test_answers_end_with_their_mark(tmp_path: Path, reply: Any, drawn: Drawn) -> None:
    """Whether the server gives the mark among the tokens or apart from them; nothing comes after it."""
    with vllm.serving(Scripted(completions=(200, reply))) as served:
        assert answer(attached(served.url, tmp_path)) == [drawn]
    assert served.asked[-1][1] == {
        "model": "base",
        "prompt": [1, 2],
        "max_tokens": 4,
        "temperature": 1.0,
        "top_p": 1.0,
        "top_k": -1,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "stop_token_ids": [2, 9],
        "seed": 3,
        "logprobs": 1,
        "return_token_ids": True,
        "add_special_tokens": False,
    }


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        ((200, {"choices": []}), r"replied without an answer: \{'choices': \[\]\}"),
        ((200, [1]), "replied without an answer"),
        ((200, completion(token_ids=None)), "does not say the tokens of its answers"),
        ((200, completion(token_ids=[], finish_reason="length")), "replied without an answer"),
        ((200, "<html>"), "replied with no JSON: '<html>'"),
        ((404, {"message": "no such model"}), r"/v1/completions with status 404: .*no such model"),
        ((503, ""), "does not answer: status 503, 1 attempts"),
    ],
)
def test_replies_of_no_use(tmp_path: Path, reply: tuple[int, Any], said: str) -> None:
    """They end the run in one line that names the server."""
    with vllm.serving(Scripted(completions=reply)) as served:
        server = attached(served.url, tmp_path)
        with pytest.raises(UserError, match=said) as raised:
            answer(server)
    assert raised.value.message.startswith("the vLLM server 127.0.0.1:")


def test_a_server_that_takes_no_policy(tmp_path: Path) -> None:
    """It is said how to start it; one that has it already, since its reply was lost, has it."""
    refusing = Scripted(load_lora_adapter=(404, {"detail": "Not Found"}))
    said = "/v1/load_lora_adapter with status 404"
    with vllm.serving(refusing) as served, pytest.raises(UserError, match=said) as raised:
        attached(served.url, tmp_path).give(nothing)
    assert "VLLM_ALLOW_RUNTIME_LORA_UPDATING=True" in raised.value.help
    with vllm.serving(Scripted(load_lora_adapter=(400, "has already been loaded"))) as served:
        attached(served.url, tmp_path).give(nothing)
    with vllm.serving(Scripted(collective_rpc=(404, ""))) as served:
        server = VllmServer(served.url)
        server.attach(tmp_path / "policy", is_adapter=False, longest=10)
        with pytest.raises(UserError, match="/collective_rpc with status 404") as raised:
            server.give(nothing)
    assert "VLLM_SERVER_DEV_MODE=1" in raised.value.help


def test_a_dead_server_and_a_missing_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: Path
) -> None:
    """Both are said before anything is generated; the key is sent, and never told."""
    monkeypatch.setattr(json_server, "pause", lambda seconds: None)
    with pytest.raises(UserError, match="connection refused, 1 attempts"):
        attached("http://127.0.0.1:9", tmp_path)
    with pytest.raises(
        UserError, match=r"`NO_SUCH_KEY`, named by `objective\.generator\.token_env`"
    ):
        attached("http://127.0.0.1:9", tmp_path, token_env="NO_SUCH_KEY")
    with vllm.serving(vllm.StandIn(room / "model", token="secret-of-mine")) as served:
        with pytest.raises(UserError, match="/v1/models with status 401"):
            attached(served.url, tmp_path)
        monkeypatch.setenv("VLLM_KEY", "secret-of-mine")
        attached(served.url, tmp_path, token_env="VLLM_KEY")
    nameless = Scripted(models=(200, {"data": []}))
    with vllm.serving(nameless) as served, pytest.raises(UserError, match="names no model"):
        attached(served.url, tmp_path)


@pytest.mark.heavy
def test_two_processes_ask_for_their_shares(room: Path) -> None:
    """Adapters and whole weights, also spread over the processes, reach the server; the numbers are those of one."""
    two = "[launch]\nprocesses = 2\n[deepspeed]\nzero_stage = {}\n"
    cases = {"lora": (LORA, "2"), "full": (FULL, "3\npersistence_threshold = 0")}
    shared = []
    for name, (method, stage) in cases.items():
        inprocess.train(made(room, f"{name}-one", GRPO, method, None))
        with vllm.serving(vllm.StandIn(room / "model")) as served:
            spec = method + two.format(stage)
            shared.append(made(room, f"{name}-two", GRPO, spec, served.url))
            inprocess.on_two_ranks(shared[-1:])
        assert served.adapters == {}
        assert not (shared[-1] / "policy").exists()
    for name, run_dir in zip(cases, shared, strict=True):
        alone = numbers(room / "runs" / f"{name}-one")
        for row, expected in zip(numbers(run_dir), alone, strict=True):
            assert row == pytest.approx(expected, rel=1e-3, abs=1e-5), name
