"""Rules about data: what the examples of their explanations leave out, and the wording."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tunec.compiler.diagnostics import Diagnostic, Level
from tunec.compiler.rules.data import num_held_out

Find = Callable[..., tuple[Diagnostic, ...]]

PAIRS = 'sources = [{ format = "preference", path = "data/pairs.jsonl" }]\n'
TEXTS = 'sources = [{ format = "text", path = "data/texts.jsonl" }]\n'
PROMPTS = 'sources = [{ format = "prompt", path = "data/prompts.jsonl" }]\n'
CHATS = 'sources = [{ format = "messages", path = "data/chat.jsonl" }]\n'
JUDGED = 'sources = [{ format = "messages", path = "data/judged.jsonl", label = "label" }]\n'
SHARED = 'sources = [{ format = "sharegpt", path = "data/shared.jsonl" }]\n'
COMPARED = (
    'sources = [{ format = "messages", path = "data/compared.jsonl", chosen = "chosen", '
    'rejected = "rejected" }]\n'
)
REWARD = 'reward = { type = "function", path = "rewards.py" }\n'
GROUPS = 'group_size = 4\nrewards = [{ type = "function", path = "rewards.py" }]\n'
OBJECTIVES = {
    "sft": "",
    "pretraining": "",
    "reward": "",
    "dpo": "",
    "orpo": "",
    "simpo": "",
    "cpo": "",
    "kto": "",
    "ppo": REWARD,
    "grpo": GROUPS,
}
FITTING = {
    **dict.fromkeys(("reward", "dpo", "orpo", "simpo", "cpo"), (PAIRS, COMPARED)),
    "sft": (CHATS, SHARED),
    "pretraining": (TEXTS,),
    "kto": (JUDGED,),
    "ppo": (PROMPTS, CHATS, SHARED),
    "grpo": (PROMPTS, CHATS, SHARED),
}
KINDS = (PAIRS, TEXTS, PROMPTS, CHATS, JUDGED, SHARED, COMPARED)


def spec(objective: str, data: str) -> str:
    """Return the lines of an objective and its data."""
    return f'[objective]\ntype = "{objective}"\n{OBJECTIVES[objective]}[data]\n{data}'


def of(findings: tuple[Diagnostic, ...], code: str) -> list[Diagnostic]:
    """Return the findings with a code."""
    return [item for item in findings if item.code == code]


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_objectives_take_their_kind_of_data_only(objective: str, found: Find) -> None:
    """Each objective goes with the formats that hold what it learns from, and with no other."""
    for data in KINDS:
        wrong = of(found(spec(objective, data)), "D707")
        # Columns without use are another finding.
        more = (JUDGED, COMPARED) if objective in ("sft", "ppo", "grpo") else ()
        fits = data in (*FITTING[objective], *more)
        assert bool(wrong) is not fits, (objective, data)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_fitting_data_have_no_findings(objective: str, found: Find) -> None:
    """The right kind of data gives no error but that it cannot be trained on yet."""
    for data in FITTING[objective]:
        errors = {i.code for i in found(spec(objective, data)) if i.level is Level.ERROR}
        assert errors <= {"N901"}, (objective, data)


WORDINGS: dict[str, tuple[str, str, str, tuple[str, ...]]] = {
    "pairs for sft": (
        f"[data]\n{PAIRS}",
        "D707",
        "`sft` learns from conversations, this source holds preference pairs",
        (
            'to learn the better answers alone, use `format = "messages"` with `messages = "chosen"`',
        ),
    ),
    "conversations for kto": (
        spec("kto", CHATS),
        "D707",
        "`kto` learns from answers labelled good or bad, this source holds conversations",
        ("name the column with `label`, in a conversation format",),
    ),
    "texts for grpo": (
        spec("grpo", TEXTS),
        "D707",
        "`grpo` learns from prompts, this source holds plain text",
        ('use `format = "prompt"`, and name the column with `prompt`',),
    ),
    "conversations for pretraining": (
        spec("pretraining", CHATS),
        "D707",
        "`pretraining` learns from plain text, this source holds conversations",
        (
            'use `format = "text"`, and name the column with `text`; whole conversations are learned by '
            '`type = "sft"` with `loss_on = "all"`',
        ),
    ),
    "joined conversations": (
        '[data]\npacking = "joined"\n',
        "D736",
        "conversations cannot be joined: they would see each other",
        ('use `packing = "isolated"`, which fills rows and keeps samples apart',),
    ),
    "rows on a hub": (
        '[data]\nsources = [{ format = "messages", path = "owner/chats", hub = "huggingface" }]\n',
        "D712",
        "the rows of `owner/chats` are not looked at here",
        (),
    ),
    "damaged table": (
        '[data]\nsources = [{ format = "messages", path = "data/table.parquet" }]\n',
        "D701",
        "`data/table.parquet` cannot be read: no .parquet file that can be read: Parquet file size is 4 bytes, "
        "smaller than the minimum file footer (8 bytes)",
        (),
    ),
    "entry of another kind": (
        '[data]\nsources = [{ format = "catalog", entry = "pairs" }]\n',
        "D707",
        "`sft` learns from conversations, this source holds preference pairs",
        (
            'to learn the better answers alone, use `format = "messages"` with `messages = "chosen"`',
        ),
    ),
    "chosen for sft": (
        f"[data]\n{COMPARED.replace(', rejected', ' }] #')}",
        "D709",
        "`chosen` is named without `rejected`",
        ("name the column of the other answer with `rejected`",),
    ),
    "column": (
        spec("dpo", PAIRS.replace("pairs.jsonl", 'pairs.jsonl", chosen = "choosen')),
        "D710",
        "no row of `data/pairs.jsonl` has the column `choosen`",
        ("a similar name is `chosen`",),
    ),
    "column of a csv file": (
        '[data]\nsources = [{ format = "messages", path = "data/table.csv", messages = "mesages" }]\n',
        "D710",
        "no row of `data/table.csv` has the column `mesages`",
        ("a similar name is `messages`",),
    ),
    "labels": (
        spec("kto", JUDGED.replace("judged", "praised")),
        "D711",
        "the first 8 rows are all labelled good",
        ("add rows of the other kind, or a source that holds them",),
    ),
    "catalog": (
        '[data]\nsources = [{ format = "catalog", entry = "x", catalog = "none.toml" }]\n',
        "D718",
        "there is no catalog `none.toml`",
        (),
    ),
    "no catalog": (
        '[data]\nsources = [{ format = "catalog", entry = "x", catalog = "rewards.py" }]\n',
        "D718",
        "the catalog `rewards.py` is no TOML: expected `=` after the key",
        (),
    ),
    "empty folder": (
        '[data]\nsources = [{ format = "messages", path = "data/none" }]\n',
        "D719",
        "`data/none` holds no data files",
        (),
    ),
    "unknown kind": (
        '[data]\nsources = [{ format = "messages", path = "rewards.py" }]\n',
        "D701",
        "`rewards.py` is no data file by its name",
        (
            "known are `.json`, `.jsonl`, `.csv`, `.txt`, `.parquet`, `.arrow` and `.feather`, and `.json`, `.jsonl`, "
            "`.csv` and `.txt` with `.gz`, `.bz2`, `.xz` or `.zst` behind",
        ),
    ),
    "pattern without files": (
        '[data]\nsources = [{ format = "messages", path = "data/none/*.jsonl" }]\n',
        "D701",
        "there is no data file `data/none/*.jsonl`",
        (),
    ),
    "address": (
        '[data]\nsources = [{ format = "messages", path = "https://example.org/a.jsonl" }]\n',
        "D712",
        "the rows of `https://example.org/a.jsonl` are not looked at here",
        (),
    ),
    "isolated": (
        '[data]\npacking = "isolated"\n[model]\nattention = "flash3"\n[launch]\ndevice = "gpu"\n',
        "D731",
        "`flash3` keeps packed samples apart only in micro batches of one row",
        ('set `micro_size` to 1, or use `attention = "sdpa"`',),
    ),
    "mixing": (
        '[data]\npacking = "padding-free"\n[model]\npath = "recurrent-model"\n',
        "D735",
        "a model of type `mamba2` mixes samples that share a row",
        ('leave `packing` out, or write `packing = "off"`',),
    ),
}


@pytest.mark.parametrize("case", WORDINGS)
def test_wording(case: str, found: Find) -> None:
    """The findings about data say the cause with its names, and the way out in the help."""
    text, code, message, helps = WORDINGS[case]
    first = of(found(text), code)[0]
    assert (first.message, first.helps) == (message, helps)


def test_a_missing_column_is_told_once(found: Find) -> None:
    """A column that no row has is one finding, with the names there are; no row is blamed."""
    findings = found(spec("kto", JUDGED.replace('label = "label"', 'label = "lable"')))
    assert [i.code for i in findings if i.code.startswith("D")] == ["D710"]
    assert of(findings, "D710")[0].notes == ("columns of the first rows: `messages` and `label`",)


@pytest.mark.parametrize("attention", ["eager", "sdpa", "flex", "auto"])
def test_masks_keep_samples_apart(attention: str, found: Find) -> None:
    """Attention that takes a mask keeps packed samples apart at any micro batch."""
    findings = found(f'[data]\npacking = "isolated"\n[model]\nattention = "{attention}"\n')
    assert of(findings, "D731") == []


def test_flash_looks_at_the_rows_that_follow(found: Find) -> None:
    """Rows of a micro batch that follow from the other numbers count; padding-free, there is always one."""
    text = (
        '[data]\npacking = "{}"\n[model]\nattention = "flash2"\n[launch]\ndevice = "gpu"\n'
        "[batch]\nglobal_size = 8\naccumulation_steps = {}\n"
    )
    counts = [
        len(of(found(text.format(packing, steps)), "D731"))
        for packing, steps in (("isolated", 2), ("isolated", 8), ("padding-free", 2))
    ]
    assert counts == [1, 0, 0]


def test_a_stream_is_told_all_at_once(found: Find) -> None:
    """Each setting that a stream cannot honour is a finding of its own."""
    text = (
        "[data]\nstreaming = true\neval_rows = 0.5\ngroup_by_length = true\n"
        'prepared_dir = "p"\nsources = [{ format = "messages", path = "data/chat.jsonl", '
        "limit = 2, sample = 3 }]\n[training]\nepochs = 1\n"
    )
    codes = [item.code for item in found(text) if item.code.startswith("D72")]
    assert codes == ["D720", "D721", "D722", "D722", "D722", "D722"]


def test_entries_of_catalogs_are_checked_like_sources(folder: Path, found: Find) -> None:
    """Unknown keys, missing ones and wrong types in an entry are told by name."""
    for content, problem in (
        ('format = "messages"\npath = "x"\nlimt = 3\n', "unknown key `limt`"),
        ('format = "messages"\n', "`path` is missing"),
        ('format = "messages"\npath = 3\n', "`path` has the wrong type"),
        ('format = "mesages"\npath = "x"\n', "`format` must be one of"),
        ('path = "x"\n', "`format` must be one of"),
        ('format = "messages"\npath = "x"\nhub = "nowhere"\n', "`hub` has the wrong type"),
        ('format = "catalog"\nentry = "x"\n', "`format` must be one of"),
        ('format = "messages"\npath = ""\n', "`path` is empty"),
        ('format = "messages"\npath = "x"\nlimit = 0\n', "`limit` is 0, expected a number above 0"),
        ('format = "messages"\npath = "x"\nsample = -1\n', "`sample` is -1, expected"),
        ('format = "messages"\npath = "x"\nweight = -0.5\n', "`weight` is -0.5, expected"),
    ):
        (folder / "odd.toml").write_text(f"[x]\n{content}")
        text = '[data]\nsources = [{ format = "catalog", entry = "x", catalog = "odd.toml" }]\n'
        (finding,) = of(found(text), "D718")
        assert finding.message.startswith(f"entry `x` of `odd.toml`: {problem}")


def test_entries_of_catalogs_get_the_same_looks(folder: Path, found: Find) -> None:
    """Half a pair, a setting of hubs, a bad row and a missing column are told of an entry too."""
    (folder / "data" / "equal.jsonl").write_text(
        '{"prompt": "q", "chosen": "a", "rejected": "a"}\n'
    )
    for content, objective, code, message in (
        ('"messages"\npath = "data/compared.jsonl"\nchosen = "chosen"\n', "dpo", "D709", "`chosen` is named without `rejected`"),
        ('"messages"\npath = "data/chat.jsonl"\nsubset = "x"\n', "sft", "D717", "`subset` belongs to data sets of a hub, `data/chat.jsonl` is a file"),
        ('"preference"\npath = "data/equal.jsonl"\n', "dpo", "D702", "row at `data/equal.jsonl:1`: `chosen` and `rejected` are the same, there is nothing to prefer"),
        ('"text"\npath = "data/texts.jsonl"\ntext = "txt"\n', "pretraining", "D710", "no row of `data/texts.jsonl` has the column `txt`"),
    ):  # fmt: skip
        (folder / "looks.toml").write_text(f"[x]\nformat = {content}")
        source = 'sources = [{ format = "catalog", entry = "x", catalog = "looks.toml" }]\n'
        (finding,) = of(found(spec(objective, source)), code)
        assert (finding.message, finding.path) == (message, ("data", "sources", 0, "entry"))


@pytest.mark.parametrize(
    ("objective", "row", "message"),
    [
        ("dpo", {"chosen": "a", "rejected": "b"}, None),
        ("dpo", {"chosen": "a"}, "the row has no column `rejected`"),
        ("dpo", {"chosen": "a", "rejected": " "}, "`rejected` is empty: there is no answer to learn"),
        ("sft", {"output": "a"}, None),
        ("sft", {"output": ""}, "`output` is empty: there is no answer to learn"),
        ("grpo", {}, None),
        ("kto", {"output": "a", "label": "no"}, '`label` is "no", expected true or false'),
        ("kto", {"output": "a", "label": 0}, None),
    ],
)  # fmt: skip
def test_what_is_learned_decides_what_a_row_needs(
    objective: str, row: dict[str, Any], message: str | None, folder: Path, found: Find
) -> None:
    """The same source is read for the pair, for the answer, for the label, or for the question alone."""
    known = {"chosen": "a", "rejected": "b", "output": "a", "label": True}
    rows = [{"instruction": "q", **row}, {"instruction": "q", **known}]
    (folder / "data" / "all.jsonl").write_text("\n".join(map(json.dumps, rows)))
    columns = 'chosen = "chosen", rejected = "rejected", label = "label"'
    source = f'sources = [{{ format = "alpaca", path = "data/all.jsonl", {columns} }}]\n'
    messages = [i.message for i in of(found(spec(objective, source)), "D702")]
    assert messages == ([] if message is None else [f"row at `data/all.jsonl:1`: {message}"])


def test_the_file_of_a_folder_is_named(folder: Path, found: Find) -> None:
    """A bad row of a folder is placed in its file."""
    many = folder / "data" / "bad-many"
    many.mkdir(exist_ok=True)
    (many / "a.csv").write_text("text\nx\n")
    (many / "b.csv").write_text("text\n\n \n")
    source = 'sources = [{ format = "text", path = "data/bad-many" }]\n'
    (finding,) = of(found(spec("pretraining", source)), "D702")
    assert finding.message == (
        "row at `data/bad-many: b.csv:3`: `text` is empty: there is nothing to learn"
    )
    assert finding.place is not None
    assert (finding.place.file.name, finding.place.line) == ("b.csv", 3)


def test_an_entry_is_read_from_the_catalogs_folder(folder: Path, found: Find) -> None:
    """Paths in a catalog start from its own folder, and the spec's limit goes first."""
    lists = folder / "lists"
    lists.mkdir(exist_ok=True)
    (lists / "sets.toml").write_text('[c]\nformat = "messages"\npath = "../data/chat.jsonl"\n')
    source = '{ format = "catalog", entry = "c", catalog = "lists/sets.toml", limit = 4 }'
    findings = found(f"[data]\nsources = [{source}]\neval_rows = 4\n")
    assert [i.message for i in of(findings, "D705")] == [
        "`data.eval_rows` is 4, the training data has 4 rows"
    ]


@pytest.mark.parametrize(
    ("share", "rows"), [(0.5, 5), (0.01, 1), (0.0, 0), (-1.0, 0), (2.5, 10), (1e308, 10)]
)
def test_shares_that_are_none(share: float, rows: int) -> None:
    """Whatever a share is, it is some number of rows."""
    assert num_held_out(share, 10) == rows
    for odd in (float("inf"), float("-inf"), float("nan")):
        assert num_held_out(odd, 10) in (0, 10)
