"""Rewards: functions of the user and servers, and what is said when they fail."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import re
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tunec.runtime import json_server
from tunec.runtime.errors import UserError
from tunec.runtime.rewards import Answered, ApiReward, FunctionReward
from web import listening

EXAMPLES = Path(__file__).parents[2] / "examples" / "rewards"
ANSWERED = [
    Answered("What is 2 + 3?", "It is 5.", [1], [2, 3], "5"),
    Answered("What is 2 + 4?", "Seven", [1], [4], "6"),
]


def by_function(folder: Path, text: str, name: str = "reward") -> FunctionReward:
    """Write a file and attach the function of that name."""
    path = folder / "rewards.py"
    path.write_text(text)
    reward = FunctionReward(path, name=name)
    reward.attach(None, None, None)
    return reward


@pytest.mark.parametrize(
    "text",
    [
        "def reward(prompts, answers, expected):\n    return [len(a) for a in answers]",
        "def reward(answers):\n    return [len(a) for a in answers]",
        "def reward(answers, unit=1):\n    return [len(a) * unit for a in answers]",
        "def reward(**given):\n    return tuple(len(a) for a in given['answers'])",
        "import numpy\ndef reward(answers):\n    return numpy.array([len(a) for a in answers])",
        "import torch\nclass Score:\n    def __call__(self, answers):\n        return torch.tensor([len(a) for a in answers])\nreward = Score()",
    ],
)
def test_a_function_gets_what_it_takes(tmp_path: Path, text: str) -> None:
    """The lists are given by name, and any sequence of numbers will do."""
    assert by_function(tmp_path, text).score(None, ANSWERED) == [8.0, 5.0]


def test_the_example_scores_what_is_expected() -> None:
    """The file in the examples works as it is documented."""
    reward = FunctionReward(EXAMPLES / "rules.py", name="right", weight=2.0)
    assert reward.attach(None, None, None) == "function `right` of rules.py"
    assert reward.score(None, ANSWERED) == [1.0, 0.0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("def reward(answers:", "line 1: "),
        ("import nowhere_at_all", "No module named 'nowhere_at_all' \\(line 1\\)"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("def other(answers):\n    return []", "defines no function `reward`"),
        ("def reward(texts):\n    return []", "takes `texts`, which is not given"),
        ("async def reward(answers):\n    return []", "coroutine"),
    ],
)
def test_a_function_that_cannot_be_used(tmp_path: Path, text: str, said: str) -> None:
    """It is said when the training starts, in one line."""
    with pytest.raises(UserError, match=said):
        by_function(tmp_path, text)


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        ("[1.0]", "gave 1 scores for 2 answers"),
        ("[1.0, float('nan')]", r"gave nan for answer 1 \('Seven'\)"),
        ("[float('inf'), 1.0]", "gave inf for answer 0"),
        ("[1e39, 1.0]", r"gave 1e\+39 for answer 0"),
        ("[1.0, None]", "gave None for answer 1"),
        ("['good', 'bad']", "gave 'good' for answer 0"),
        ("None", "gave None instead of a list"),
        ("[1.0][7]", r"failed: IndexError: list index out of range \(line 2\)"),
        ("exit()", "failed: SystemExit"),
    ],
)
def test_scores_that_are_of_no_use(tmp_path: Path, returned: str, said: str) -> None:
    """Wrong counts, what is no finite number and exceptions are one line with the answer or the line at fault."""
    reward = by_function(tmp_path, f"def reward(answers):\n    return {returned}\n")
    with pytest.raises(UserError, match=said) as raised:
        reward.score(None, ANSWERED)
    assert "\n" not in raised.value.message


class Served:
    """A server on this machine that answers as it is told, one reply after another."""

    def __init__(self) -> None:
        """Start with nothing to say."""
        self.replies: list[Any] = []
        self.asked: list[tuple[dict[str, str], Any]] = []
        served = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                served.asked.append((dict(self.headers), json.loads(body)))
                served.replies.pop(0)(self)

            def log_message(self, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.server.stopped = threading.Event()  # type: ignore[attr-defined]
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.server.server_address[1]}/score"


def reply(body: str | bytes, status: int = 200) -> Callable[[Any], None]:
    """Reply with a status and a body."""

    def act(handler: Any) -> None:
        content = body.encode() if isinstance(body, str) else body
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content)

    return act


def hang(handler: Any) -> None:
    """Begin a reply and go on with it far too slowly."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    with contextlib.suppress(ConnectionError):
        for _ in range(40):
            handler.wfile.write(b" ")
            handler.wfile.flush()
            handler.server.stopped.wait(0.05)


def drop(handler: Any) -> None:
    """Break the connection."""
    handler.connection.close()


GOOD = reply('{"scores": [0.5, -1]}')


@pytest.fixture
def served() -> Iterator[Served]:
    """A server that is told what to answer."""
    found = Served()
    yield found
    found.server.stopped.set()  # type: ignore[attr-defined]
    found.server.shutdown()
    found.server.server_close()


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses between attempts, which take no time here."""
    found: list[float] = []
    monkeypatch.setattr(json_server, "pause", found.append)
    return found


def by_server(served: Served, **options: Any) -> ApiReward:
    """Attach a reward that asks the server."""
    reward = ApiReward(served.url, **{"timeout_s": 5.0, "retries": 3, **options})
    reward.attach(None, None, None)
    return reward


def test_a_server_is_asked_once(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """One request holds all answers and the token, and its scores come back in order."""
    monkeypatch.setenv("MY_TOKEN", "secret-of-mine")
    served.replies = [GOOD]
    assert by_server(served, token_env="MY_TOKEN").score(None, ANSWERED) == [0.5, -1.0]
    ((headers, body),) = served.asked
    assert headers["Authorization"] == "Bearer secret-of-mine"
    assert body == {
        "prompts": ["What is 2 + 3?", "What is 2 + 4?"],
        "answers": ["It is 5.", "Seven"],
        "expected": ["5", "6"],
    }


def test_failures_that_pass_are_tried_again(served: Served, pauses: list[float]) -> None:
    """A broken connection and a busy server are asked again, each time later."""
    served.replies = [reply("busy", 503), drop, reply("", 500), GOOD]
    assert by_server(served).score(None, ANSWERED) == [0.5, -1.0]
    assert pauses == [1.0, 2.0, 4.0]


@pytest.mark.parametrize(
    ("replies", "said", "attempts"),
    [
        ([reply("", 500)] * 4, "does not answer: status 500, 4 attempts", 4),
        ([drop] * 4, "does not answer: .*, 4 attempts", 4),
        ([reply("", 401)], "answered with status 401", 1),
        ([reply("", 307)], "answered with status 307", 1),
        ([reply("<html>")], "replied with no JSON: '<html>'", 1),
        ([reply("[1, 2]")], "replied without `scores`", 1),
        ([reply('{"scores": [1]}')], "gave 1 scores for 2 answers", 1),
        ([reply('{"scores": [1, NaN]}')], "gave nan for answer 1", 1),
        ([reply('{"scores": [1, "2"]}')], "gave '2' for answer 1", 1),
        ([reply('{"scores": 7}')], "gave 7 instead of a list", 1),
        ([reply(b"\xff\xfe")], "replied with no JSON", 1),
    ],
)
@pytest.mark.usefixtures("pauses")
def test_a_server_that_fails(
    served: Served,
    monkeypatch: pytest.MonkeyPatch,
    replies: list[Any],
    said: str,
    attempts: int,
) -> None:
    """What cannot be used ends the run in one line that names the server, and never the token."""
    monkeypatch.setenv("MY_TOKEN", "secret-of-mine")
    served.replies = list(replies)
    with pytest.raises(UserError, match=said) as raised:
        by_server(served, token_env="MY_TOKEN").score(None, ANSWERED)
    assert len(served.asked) == attempts
    assert "127.0.0.1" in raised.value.message
    assert "secret" not in raised.value.text()


@pytest.mark.usefixtures("pauses")
def test_a_server_that_is_slow_or_dead(served: Served) -> None:
    """A reply that trickles in is too late as well; where nobody listens it is said at once."""
    served.replies = [hang]
    with pytest.raises(UserError, match=re.escape("no reply within 0.2 s, 1 attempts")):
        by_server(served, timeout_s=0.2, retries=0).score(None, ANSWERED)
    dead = by_server(served, retries=1)
    served.server.server_close()
    with pytest.raises(UserError, match="connection refused, 2 attempts"):
        dead.score(None, ANSWERED)


def test_a_token_that_is_missing(served: Served) -> None:
    """It is said before anything is trained."""
    with pytest.raises(UserError, match="`NO_SUCH_TOKEN`"):
        by_server(served, token_env="NO_SUCH_TOKEN")


def test_the_example_server_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server in the examples keeps to the contract, and asks for its token."""
    spec = importlib.util.spec_from_file_location("example_server", EXAMPLES / "server.py")
    assert spec is not None
    assert spec.loader is not None
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    monkeypatch.setattr(example.Handler, "log_message", lambda *args: None)
    monkeypatch.setenv("REWARD_TOKEN", "shared")
    with listening(example.Handler) as url:
        reward = ApiReward(f"{url}/score", token_env="REWARD_TOKEN")
        reward.attach(None, None, None)
        assert reward.score(None, ANSWERED) == pytest.approx([1 - 0.008, -0.005])
        stranger = ApiReward(f"{url}/score")
        stranger.attach(None, None, None)
        with pytest.raises(UserError, match="status 401"):
            stranger.score(None, ANSWERED)
