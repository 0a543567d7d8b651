"""From files to the tokens the loss sees."""

from .conversation import Conversation, Message
from .prepare import prepare
from .prepared import load
from .read import Alpaca, Messages, Source, read
from .samples import Samples, split
from .tokenize import tokenize
from .tokenizer import Tokenizer
from .work import Options

__all__ = [
    "Alpaca",
    "Conversation",
    "Message",
    "Messages",
    "Options",
    "Samples",
    "Source",
    "Tokenizer",
    "load",
    "prepare",
    "read",
    "split",
    "tokenize",
]
