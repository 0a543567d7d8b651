"""`[data]`: what the model learns from."""

from __future__ import annotations

from typing import Literal

from attrs import field

from .kinds import Hub, section

TooLong = Literal["truncate", "drop", "split", "error"]
Mix = Literal["concat", "interleave-under", "interleave-over", "interleave-once"]


@section
class _Rows:
    """What every source can be told: where the rows are and how many of them count."""

    path: str
    """A file, folder or glob (relative to the spec), a URL such as `https://` or `s3://` (read through fsspec, with
    credentials from the environment), a folder that `datasets` saved, or an id on `hub`. Files are `.json`,
    `.jsonl`, `.csv` (with a header), `.txt` (a row a line), `.parquet`, `.arrow` or `.feather`; those of text also as
    `.gz`, `.bz2`, `.xz` or `.zst`. A folder or glob names files of one kind, read in the order of their names."""

    name: str | None = None
    """Name in reports. Default: the file's name."""

    hub: Hub | None = None
    """Hub that `path` is an id of. Default: `path` is a file or a URL. The files are fetched when the run prepares
    its data and kept; with HF_HUB_OFFLINE=1 in the environment those that were kept are used."""

    revision: str | None = None
    """Branch, tag or commit of a hub data set. The commit that was read is told and noted in `prepared.json`."""

    subset: str | None = None
    """Configuration of a hub data set, by the `configs` in its README."""

    split: str = "train"
    """Split of a hub data set, by its README or the names of its files, or of a folder that `datasets` saved."""

    folder: str | None = None
    """Folder inside a hub data set."""

    token_env: str | None = None
    """Name of the environment variable that holds the hub token."""

    limit: int | None = None
    """Use only the first rows of this source."""

    sample: int | None = None
    """Draw this many rows at random from those that `limit` leaves, repeating some where there are fewer. A row that
    is held out for evaluation is never repeated in training."""

    weight: float | None = None
    """Share of this source in an interleaved mix. Default: equal shares."""


@section
class _Conversations(_Rows):
    """Columns beside the conversation."""

    chosen: str | None = None
    """Column with the better answer of a preference pair: text, a message, or a list of messages. It takes the place of
    the answer that the conversation ends with, if any."""

    rejected: str | None = None
    """Column with the worse answer of a preference pair."""

    label: str | None = None
    """Column that tells good answers (`true` or 1) from bad ones (`false` or 0), for KTO."""

    tools: str | None = None
    """Column with the descriptions of tools: a list of JSON schemas, or a text that holds one."""

    images: str | None = None
    """Column with paths of images, one for each `<image>` in the texts. Paths start from `media.dir`."""

    videos: str | None = None
    """Column with paths of videos, or with lists of their frames, one for each `<video>` in the texts."""

    audios: str | None = None
    """Column with paths of sound files, one for each `<audio>` in the texts."""


@section
class AlpacaSource(_Conversations):
    """Rows with an instruction, an optional input and an output."""

    format: Literal["alpaca"]
    """`alpaca`: one instruction and one answer a row, in named columns."""

    instruction: str = "instruction"
    """Column with the user's text."""

    input: str = "input"
    """Column with more user text, joined to the instruction by a line break. May be absent."""

    output: str = "output"
    """Column with the answer."""

    system: str = "system"
    """Column with the system prompt. May be absent."""

    history: str = "history"
    """Column with earlier `[user, assistant]` pairs. May be absent."""


@section
class MessagesSource(_Conversations):
    """Rows that hold a conversation as a list of messages (OpenAI's format)."""

    format: Literal["messages"]
    """`messages`: a list of `{role, content}` a row. An assistant's message can have `tool_calls`, and `train = false`
    (or OpenAI's `weight = 0`) when it is to be read, but not learned."""

    messages: str = "messages"
    """Column with the list of messages."""

    role: str = "role"
    """Key of a message's role: `system`, `user`, `assistant` or `tool`."""

    content: str = "content"
    """Key of a message's text."""


@section
class ShareGptSource(_Conversations):
    """Rows that hold a conversation in ShareGPT's words, with any tags."""

    format: Literal["sharegpt"]
    """`sharegpt`: a list of `{from, value}` a row."""

    messages: str = "conversations"
    """Column with the list of messages."""

    role: str = "from"
    """Key of a message's role."""

    content: str = "value"
    """Key of a message's text."""

    system: str | None = None
    """Column with the system prompt. Default: none; a system message comes first in the list."""

    user_tag: str = "human"
    """Role of the user."""

    assistant_tag: str = "gpt"
    """Role of the assistant."""

    system_tag: str = "system"
    """Role of the system prompt."""

    tool_call_tag: str = "function_call"
    """Role of a tool call by the assistant: JSON with `name` and `arguments`, or a list of such calls."""

    tool_result_tag: str = "observation"
    """Role of a tool's result."""


@section
class TextSource(_Rows):
    """Rows of plain text, for pretraining."""

    format: Literal["text"]
    """`text`: one document a row."""

    text: str = "text"
    """Column with the text."""


@section
class PreferenceSource(_Rows):
    """Rows with a prompt and two answers, each as text or as a list of messages."""

    format: Literal["preference"]
    """`preference`: a prompt, a better and a worse answer a row."""

    prompt: str = "prompt"
    """Column with the prompt. May be absent: both answers are then whole conversations that begin alike."""

    chosen: str = "chosen"
    """Column with the better answer."""

    rejected: str = "rejected"
    """Column with the worse answer."""

    margin: str | None = None
    """Column with how much better it is, a number, for reward models."""


@section
class PromptSource(_Rows):
    """Rows with prompts only: the answers are generated in training (PPO, GRPO)."""

    format: Literal["prompt"]
    """`prompt`: a prompt a row."""

    prompt: str = "prompt"
    """Column with the prompt, as text or as a list of messages."""

    answer: str | None = None
    """Column with a reference answer, which reward functions may look at."""


@section
class CatalogSource:
    """A data set declared elsewhere."""

    format: Literal["catalog"]
    """`catalog`: a data set that a catalog file declares."""

    entry: str
    """Name of the data set in the catalog."""

    catalog: str = "datasets.toml"
    """The catalog, relative to the spec: a TOML file with a table for each data set, which holds the keys of a
    source. Paths in it start from its own folder."""

    limit: int | None = None
    """Use only the first rows of this source."""

    weight: float | None = None
    """Share of this source in an interleaved mix. Default: equal shares."""


Source = (
    AlpacaSource
    | MessagesSource
    | ShareGptSource
    | TextSource
    | PreferenceSource
    | PromptSource
    | CatalogSource
)


@section
class Data:
    """The data sets and how rows become training samples."""

    sources: tuple[Source, ...]
    """Training data; `mix` says in which order."""

    eval_sources: tuple[Source, ...] = ()
    """Evaluation data of its own. Excludes `eval_rows`."""

    eval_rows: int | float = field(default=0)
    """Rows held out of `sources` for evaluation: a count, or a fraction below 1."""

    max_length: int = 2048
    """Most tokens of a sample."""

    too_long: TooLong | None = None
    """Samples above `max_length`: `truncate` their end, `drop` them (counted and reported), `split` them into
    several (plain text), or stop with an `error`. Default: `split` in pretraining, otherwise `truncate`."""

    reserved_answer: int = 1
    """Tokens of the answer that truncation keeps at least. Where cutting the end would leave fewer, the beginning of
    the prompt is cut instead: the end of a question, and the mark that opens the answer, matter most. A sample
    without a token that carries loss is a bad row."""

    bad_rows: Literal["error", "skip"] = "error"
    """Rows that cannot be used: stop with an `error`, or `skip` and list them."""

    max_bad_share: float = 0.01
    """Share of skipped rows above which the run stops all the same."""

    shuffle: bool = True
    """Visit the training rows in a new random order each epoch (fixed by `training.seed`)."""

    seed: int | None = None
    """Seed of all that is random about the data: which rows are drawn or held out, and their order. Default:
    `training.seed`."""

    group_by_length: bool = False
    """Put samples of similar length into the same step, which saves padding and costs randomness."""

    mix: Mix = "concat"
    """Several sources: one after the other (`concat`), or drawn in turns until the first is used up
    (`interleave-under`), until all are (`interleave-over`, rows repeat), or each row once (`interleave-once`). Turns
    are even: after any number of them each source has had its share, and its rows keep their order."""

    streaming: bool = False
    """Read rows as they are needed, for data too large to prepare. Needs `training.steps`."""

    shuffle_buffer: int = 16384
    """Rows a stream is shuffled within."""

    packing: Literal["auto", "off", "padding-free", "isolated", "joined"] = "auto"
    """What shares a row of a batch. `off`: a padded row for each sample. `padding-free`: the samples of a micro batch
    end to end in one row; steps and losses are those of `off`. `isolated`: rows filled up to `max_length`, of which
    the batch sizes then count. Both keep samples apart in attention and positions; `joined`, for pretraining, does
    not. `auto`: `joined` for pretraining, otherwise `off`."""

    pad_multiple: int = 1
    """Pad the longest row of a micro batch to a multiple of so many tokens, which some kernels are faster with."""

    prepared_dir: str | None = None
    """Folder of the tokenized data, relative to the spec. Empty, it is filled; with just the data of this spec, it is
    used, also where the data files are not; with any other, it is refused with what differs. Default: a folder of
    their own in `TUNEC_CACHE`, or in `tunec` in the user's cache folder, which runs that need the same data share."""

    rebuild: bool = False
    """Tokenize again even where prepared data fit, and in place of others in `prepared_dir`."""

    workers: int | None = None
    """Processes that tokenize. Default: one a core, where the data are worth it."""

    batch_rows: int = 256
    """Rows a process tokenizes at a time."""

    shared_storage: bool = True
    """All nodes see the same files: the first to come tokenizes, the others wait for its result, for as long as it
    takes. Off, each node tokenizes on its own disk. Either way the processes compare what they hold before training."""

    loader_workers: int = 0
    """Processes a rank uses to put batches together; 0 means itself. The batches are the same."""

    loader_prefetch: int | None = None
    """Batches each of them prepares ahead. Default: 2."""

    loader_persistent: bool = False
    """Keep those for evaluation alive from one evaluation to the next; those for training live as long as it."""

    pin_memory: bool | None = None
    """Copy batches to the GPU from pinned memory. Default: on GPUs."""
