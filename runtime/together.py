"""What processes do together: one works for all, and the fault of one ends all at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from .errors import ExitCode, UserError

Result = TypeVar("Result")


def num_processes() -> int:
    """Return how many processes work together."""
    import torch

    initialized = torch.distributed.is_available() and torch.distributed.is_initialized()
    return torch.distributed.get_world_size() if initialized else 1


def rank() -> int:
    """Return the number of this process among them."""
    import torch

    return int(torch.distributed.get_rank()) if num_processes() > 1 else 0


def everyones(mine: Result) -> list[Result]:
    """Return what each process gave, by rank; all must call it."""
    import torch

    if num_processes() < 2:
        return [mine]
    found: list[Any] = [None] * num_processes()
    torch.distributed.all_gather_object(found, mine)
    return found


def by_main(work: Callable[[], Result]) -> Result:
    """Return on all processes what `work` returned on rank 0; all must call it.

    Raises:
        UserError: that of rank 0, on all processes.
    """
    import torch

    if num_processes() < 2:
        return work()
    box: list[Any] = [None]
    if rank() == 0:
        box[0] = _tried(work)
    torch.distributed.broadcast_object_list(box, src=0)
    return cast(Result, _given(box[0]))


def agreed(work: Callable[[], Result]) -> Result:
    """Return what `work` returned on this process if it worked on all; all must call it.

    Raises:
        UserError: that of the first process on which it failed, on all processes.
    """
    mine = _tried(work)
    for result, fault in everyones((None, mine[1])):
        _given((result, fault))
    return cast(Result, mine[0])


def _tried(work: Callable[[], Any]) -> tuple[Any, tuple[str, str, int] | None]:
    try:
        return work(), None
    except UserError as fault:
        return None, (fault.message, fault.help, int(fault.code))


def _given(found: tuple[Any, tuple[str, str, int] | None]) -> Any:
    result, fault = found
    if fault is not None:
        message, help, code = fault
        raise UserError(message, help=help, code=ExitCode(code)) from None
    return result
