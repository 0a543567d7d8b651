"""A reward server in the standard library: `python server.py 8000`, then `url = "http://localhost:8000/score"`."""

from __future__ import annotations

import json
import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


def score(prompt: str, answer: str, expected: Any) -> float:
    """Return the score of one answer; put your own judgement here."""
    right = expected is not None and str(expected) in answer
    return float(right) - 0.001 * len(answer)


class Handler(BaseHTTPRequestHandler):
    """Answers `{"prompts": [...], "answers": [...], "expected": [...]}` with `{"scores": [...]}`."""

    def do_POST(self) -> None:
        """Score one batch of answers."""
        token = os.environ.get("REWARD_TOKEN")
        if token and self.headers.get("Authorization") != f"Bearer {token}":
            self.send_error(401)
            return
        try:
            asked = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))))
            rows = zip(asked["prompts"], asked["answers"], asked["expected"], strict=True)
            body = json.dumps({"scores": [score(*row) for row in rows]}).encode()
        except (ValueError, KeyError, TypeError):
            self.send_error(400)
            return
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8000
    ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
