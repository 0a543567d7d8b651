"""Streams: rows become samples while the training goes on, so that data of any size start within seconds.

One process a node, the producer (`feed`), reads rows in their order, shuffles them within a buffer, tokenizes them
and writes finished chunks of samples into the run folder. The ranks (`stream`) read the samples by their number in
the endless stream. The order depends on the data and the seed alone: not on the number of ranks or workers.
"""

from .head import head
from .producer import feed
from .reader import stream

__all__ = ["feed", "head", "stream"]
