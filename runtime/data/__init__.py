"""From files to the tokens the loss sees."""

from .conversation import Conversation, Message
from .read import Alpaca, Messages, Source, read
from .samples import Samples, split
from .tokenize import tokenize

__all__ = [
    "Alpaca",
    "Conversation",
    "Message",
    "Messages",
    "Samples",
    "Source",
    "read",
    "split",
    "tokenize",
]
