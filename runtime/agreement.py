"""The processes of a run compare what they are going to train on: nodes without a common disk prepare it each."""

from __future__ import annotations

import socket
from pathlib import Path

from .errors import ExitCode, UserError
from .records import read_json

POINTER = "prepared.json"
"""File of the run folder that names the prepared data: their key and the digest of their content."""


def check_same_data(run_dir: Path, *, num_ranks: int) -> None:
    """Fail on all processes when one of them holds other prepared data than rank 0; all must call it.

    Raises:
        UserError: (DATA) which nodes differ, and in what.
    """
    if num_ranks < 2:
        return
    import torch

    pointer = read_json(run_dir / POINTER)
    mine = (socket.gethostname(), str(pointer.get("key")), str(pointer.get("digest")))
    everyone: list[tuple[str, str, str]] = [mine] * num_ranks
    torch.distributed.all_gather_object(everyone, mine)
    for number, (node, key, digest) in enumerate(everyone):
        if (key, digest) != everyone[0][1:]:
            raise UserError(_told(everyone[0], number, node, key), help=_HELP, code=ExitCode.DATA)


_HELP = (
    "give all nodes the same data files, tokenizer and version of tunec, remove what was prepared "
    "on the one that is wrong, and start again"
)


def _told(first: tuple[str, str, str], number: int, node: str, key: str) -> str:
    why = (
        "they were made from other files, another tokenizer or other settings"
        if key != first[1]
        else "they were made from the same files and settings, and have other content"
    )
    return f"rank {number} on {node} holds other prepared data than rank 0 on {first[0]}: {why}"
