"""What secrets look like, and lines of a spec without them."""

from __future__ import annotations

import re
from functools import lru_cache

KINDS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("a Hugging Face token", re.compile(r"\bhf_[A-Za-z0-9]{16,}")),
    ("a GitHub token", re.compile(r"\b(?:gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,})")),
    ("a GitLab token", re.compile(r"\bglpat-[\w-]{16,}")),
    ("an API key", re.compile(r"\b(?:sk|rk)-[A-Za-z0-9_-]{16,}")),
    ("an AWS key", re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b")),
    ("a Google key", re.compile(r"\bAIza[\w-]{30,}")),
    ("a Slack token", re.compile(r"\bxox[abprs]-[\w-]{10,}")),
    ("a JSON web token", re.compile(r"\beyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]*")),
    ("a private key", re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY")),
    ("a password in an address", re.compile(r"\b[a-z][a-z0-9+.-]*://[^\s/:@]*:[^\s/@]+@")),
)
HEX_KEY = re.compile(r"[0-9a-f]{40}")
ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
TOKEN_STARTS = ("hf_", "sk_", "ghp_")
"""Beginnings of tokens that could be names of variables as well, but never are."""
COMMITS = frozenset({"revision"})
"""Settings that hold a commit, which looks like a key of Weights & Biases."""

_QUOTED_HEX = re.compile(r"(?<=[\"'])[0-9a-f]{40}(?=[\"'])")
_ENV_VALUE = re.compile(r"(\w_env\s*=\s*[\"'])([^\"']*)")


def kind_of_secret(text: str, key: object = None) -> str | None:
    """Return what a text looks like, such as `a GitHub token`, or None; `key` is the setting's name."""
    for kind, pattern in KINDS:
        if pattern.search(text):
            return kind
    if key not in COMMITS and HEX_KEY.fullmatch(text):
        return "a key of 40 hexadecimal digits"
    return None


def is_variable(text: str) -> bool:
    """Tell whether a text can be the name of an environment variable, and is no token."""
    return ENV_NAME.fullmatch(text) is not None and not text.startswith(TOKEN_STARTS)


@lru_cache(maxsize=8)  # many findings may be about one enormous line
def masked(line: str) -> str:
    """Return a line of a spec with stars in place of what looks like a secret; its length stays the same."""
    for _, pattern in KINDS:
        line = pattern.sub(lambda found: "*" * len(found[0]), line)
    if "revision" not in line:
        line = _QUOTED_HEX.sub(lambda found: "*" * len(found[0]), line)
    return _ENV_VALUE.sub(lambda found: found[1] + _named(found[2]), line)


def _named(text: str) -> str:
    return text if is_variable(text) else "*" * len(text)
