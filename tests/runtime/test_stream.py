"""Streams: the same samples as prepared data, in an order that follows from the data and the seed alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import runs
import tiny
from tunec.runtime.data import Alpaca, Messages, Options, Tokenizer, feed, head, prepare, stream
from tunec.runtime.data.order import mixed
from tunec.runtime.data.packing import best_fit
from tunec.runtime.data.prepared import open_prepared
from tunec.runtime.data.stream.ledger import Ledger
from tunec.runtime.data.stream.place import Place
from tunec.runtime.data.stream.producer import AHEAD
from tunec.runtime.data.stream.turns import in_turns, shuffled
from tunec.runtime.errors import ExitCode, UserError

OPTIONS = Options(loss_on="assistant", max_length=64, too_long="drop")


@pytest.fixture
def work(tmp_path: Path, tiny_model: Path) -> Path:
    """A folder with a tokenizer and two files: 300 rows that say `a0` to `a299`, and 70 that say `b0` to `b69`."""
    (tmp_path / "model").symlink_to(tiny_model)
    for name, count in (("a", 300), ("b", 70)):
        write_rows(tmp_path / f"{name}.jsonl", name, count)
    return tmp_path


def write_rows(path: Path, name: str, count: int) -> Path:
    with path.open("w") as file:
        for n in range(count):
            file.write(json.dumps({"instruction": "Say it.", "output": f"{name}{n}"}) + "\n")
    return path


def source(work: Path, name: str, **options: Any) -> Alpaca:
    return Alpaca(path=work / f"{name}.jsonl", name=name, **options)


def arguments(work: Path, **changes: Any) -> dict[str, Any]:
    return {
        "tokenizer": Tokenizer(path=work / "model"), "options": OPTIONS, "seed": 7, "num_steps": 100, "global_size": 8,
        "output": work / "run", "cache_dir": work / "cache", "workers": 1, **changes,
    }  # fmt: skip


def produced(work: Path, *sources: Alpaca, **changes: Any) -> list[str]:
    """Feed a stream to its end, and return what its samples say, in order."""
    feed(sources, **arguments(work, **changes))
    return said(work, stream(work / "run")[0])


def said(work: Path, samples: Any) -> list[str]:
    tokenizer = Tokenizer(path=work / "model").load()
    texts = [
        tokenizer.decode([label for label in sample.labels if label >= 0]) for sample in samples
    ]
    return [text.removesuffix("<|im_end|>") for text in texts]


@given(
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=4),
    shares=st.lists(st.integers(1, 9), min_size=4, max_size=4),
    scale=st.sampled_from([1.0, 0.1, 1 / 3]),
    mix=st.sampled_from(["concat", "interleave-under", "interleave-over", "interleave-once"]),
)
def test_turns_are_those_of_prepared_data(
    lengths: list[int], shares: list[int], scale: float, mix: Any
) -> None:
    """A stream mixes its sources as prepared data are mixed, without knowing how many rows they have."""
    parts = [np.arange(length) + 100 * number for number, length in enumerate(lengths)]
    weights = [share * scale for share in shares[: len(parts)]]

    def begin(number: int) -> Any:
        return lambda: iter(parts[number].tolist())

    rows = in_turns([begin(number) for number in range(len(parts))], weights, mix)
    assert [row for _, row in rows] == mixed(parts, list(weights), mix).tolist()


@given(count=st.integers(0, 60), size=st.integers(1, 20))
def test_a_shuffle_loses_nothing(count: int, size: int) -> None:
    """Every row comes once, none before the buffer has it; a buffer of 1 keeps the order."""
    rows = list(shuffled(iter(range(count)), size, "seed"))
    assert sorted(rows) == list(range(count))
    assert all(row < place + size for place, row in enumerate(rows))
    if size == 1:
        assert rows == list(range(count))
    assert rows == list(shuffled(iter(range(count)), size, "seed"))


def test_without_a_shuffle_it_is_the_order_of_the_files(work: Path) -> None:
    """Epoch after epoch, the samples of prepared data in the order of the files."""
    found = produced(work, source(work, "a"), source(work, "b"))
    assert len(found) == 800
    once = [f"a{n}" for n in range(300)] + [f"b{n}" for n in range(70)]
    assert found == (once * 3)[:800]


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_every_epoch_has_each_row_once(work: Path, workers: int) -> None:
    """Each epoch is another permutation of the rows, and the same for any number of workers."""
    sources = [source(work, "a", weight=2.0), source(work, "b", weight=1.0)]
    options = {"mix": "interleave-once", "shuffle_buffer": 50, "num_steps": 93}
    found = produced(work, *sources, **options, workers=workers)
    epochs = [found[:370], found[370:740]]
    assert all(max(Counter(epoch).values()) == 1 for epoch in epochs)
    assert epochs[0] != epochs[1]
    again = produced(work, *sources, **options, workers=1)
    assert again == found
    assert produced(work, *sources, **options, seed=8) != found


def test_a_resumed_stream_goes_on(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a resume the same samples come, and no chunk before them is made again."""
    options: dict[str, Any] = {"shuffle_buffer": 64, "eval_rows": 5, "num_steps": 250}
    whole = produced(work, source(work, "a"), source(work, "b"), **options)
    monkeypatch.setenv("TUNEC_RESUME_FROM", str(work / "run" / "checkpoints" / "step-190"))
    feed([source(work, "a"), source(work, "b")], **arguments(work, **options))
    first = Place(work / "run").chunks()[0]
    assert 0 < first.first <= 190 * 8 < first.end
    samples = stream(work / "run")[0]
    assert said(work, [samples[n] for n in range(190 * 8, 2000)]) == whole[190 * 8 :]
    assert samples.report()["sources"][0]["read"] > 1000


def test_a_lost_ledger_is_no_loss(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a ledger, or with a torn one, the stream is made from its beginning, to the same samples."""
    whole = produced(work, source(work, "a"), shuffle_buffer=64)
    ledger = Ledger(work / "run" / "stream").path
    ledger.write_text(ledger.read_text()[:20])
    monkeypatch.setenv("TUNEC_RESUME_FROM", str(work / "run" / "checkpoints" / "step-50"))
    feed([source(work, "a")], **arguments(work, shuffle_buffer=64))
    samples = stream(work / "run")[0]
    assert said(work, [samples[n] for n in range(400, 800)]) == whole[400:]


def test_evaluation_rows_are_never_trained_on(work: Path) -> None:
    """The first rows of the stream are held out of every epoch, of each source as many as come first."""
    sources = [source(work, "a"), source(work, "b")]
    found = produced(work, *sources, mix="interleave-over", eval_rows=6, shuffle_buffer=9)
    evaluation = said(work, stream(work / "run")[1])
    assert sorted(evaluation) == ["a0", "a1", "a2", "b0", "b1", "b2"]
    assert not set(evaluation) & set(found)
    assert len(set(found)) == 364


def test_evaluation_sources_are_prepared(work: Path) -> None:
    """Evaluation data of their own are prepared as usual."""
    produced(work, source(work, "a"), evaluation=[source(work, "b")])
    assert said(work, stream(work / "run")[1]) == [f"b{n}" for n in range(70)]


def test_files_of_several_kinds_of_rows(work: Path) -> None:
    """A folder of files, and an array whose rows all stand on one line."""
    (work / "many").mkdir()
    rows = [{"instruction": "Say it.", "output": f"c{n}"} for n in range(40)]
    (work / "many" / "x.json").write_text(json.dumps(rows[:15]))
    (work / "many" / "y.json").write_text(json.dumps(rows[15:]))
    many = Alpaca(path=work / "many", name="many")
    found = produced(work, many, source(work, "b"), mix="interleave-over", num_steps=17)
    expected = prepare(
        [many, source(work, "b")], tokenizer=Tokenizer(path=work / "model"), options=OPTIONS, seed=7,
        mix="interleave-over", output=work, cache_dir=work / "cache",
    )  # fmt: skip
    assert found[:136] == said(work, open_prepared(expected)[0])[:136]


# Gates


def test_a_bad_row_ends_the_stream(work: Path) -> None:
    """The first bad row is an error with its place, after the samples before it; the ranks are told the same."""
    lines = (work / "a.jsonl").read_text().splitlines()
    lines[250] = "{"
    (work / "a.jsonl").write_text("\n".join(lines))
    with pytest.raises(UserError, match=r"a\.jsonl:251: ") as fault:
        feed([source(work, "a")], **arguments(work))
    assert fault.value.code == ExitCode.DATA
    samples = stream(work / "run")[0]
    assert said(work, [samples[n] for n in range(128)]) == [f"a{n}" for n in range(128)]
    with pytest.raises(UserError, match=r"a\.jsonl:251: "):
        samples[300]


def test_skipped_rows_are_counted(work: Path) -> None:
    """Skipped and dropped rows are in the report, epoch by epoch, and the samples close up."""
    lines = (work / "a.jsonl").read_text().splitlines()
    lines[250] = "{"
    lines[100] = json.dumps({"instruction": "Say it. " * 80, "output": "long"})
    (work / "a.jsonl").write_text("\n".join(lines))
    found = produced(work, source(work, "a"), bad_rows="skip", shuffle_buffer=30)
    assert not {"a100", "a250", "long"} & set(found)
    entry = stream(work / "run")[0].report()
    (counts,) = entry["sources"]
    for gate in ("bad", "dropped"):
        assert 0 < entry["epoch"] <= counts[gate] <= entry["epoch"] + 1
    assert counts["kept"] == entry["end"]


def test_too_many_bad_rows(work: Path) -> None:
    """A share of bad rows above the limit ends the stream, with the first of them."""
    lines = [
        "{" if n % 20 == 7 else line
        for n, line in enumerate((work / "a.jsonl").read_text().splitlines())
    ]
    (work / "a.jsonl").write_text("\n".join(lines))
    with pytest.raises(
        UserError, match=r"rows are bad, more than `data\.max_bad_share` = 0\.01"
    ) as fault:
        feed([source(work, "a")], **arguments(work, bad_rows="skip"))
    assert "a.jsonl:8" in fault.value.help


def test_nothing_left(work: Path) -> None:
    """Data of which every row is dropped, and data without rows, end the stream instead of turning forever."""
    with pytest.raises(UserError, match="were dropped"):
        feed([source(work, "a")], **arguments(work, options=Options(max_length=4, too_long="drop")))
    (work / "a.jsonl").write_text("")
    with pytest.raises(UserError, match="the data set is empty"):
        feed([source(work, "a")], **arguments(work))


def test_held_out_to_the_last(work: Path) -> None:
    """Evaluation rows that leave nothing to train on are refused."""
    with pytest.raises(UserError, match="leave none to train on"):
        feed([source(work, "b")], **arguments(work, eval_rows=70))


def test_changed_data(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Data that change between epochs would give samples that no version of them holds."""
    rows = Place(work / "run")
    write_rows(work / "a.jsonl", "a", 20)
    process = start_feeding(work, num_steps=10_000)
    try:
        runs.wait_until(lambda: len(rows.chunks()) == AHEAD)
        write_rows(work / "a.jsonl", "c", 21)
        samples = stream(work / "run")[0]
        with pytest.raises(UserError, match="the data have changed"):
            read_all(rows, samples)
    finally:
        process.kill()
        process.wait()


def read_all(place: Place, samples: Any) -> None:
    for number in range(len(samples)):
        place.report(0, reader(number))
        assert samples[number]


# Two sides


SCRIPT = """
import os
from pathlib import Path
from tunec.runtime import data, session
work = Path({work!r})
with session.program(light=True):
    data.feed(
        [data.Alpaca(path=work / "a.jsonl", name="a")],
        tokenizer=data.Tokenizer(path=work / "model"),
        options=data.Options(loss_on="assistant", max_length=64, too_long="drop"),
        seed=7, shuffle_buffer={buffer}, num_steps={num_steps}, global_size=8, output=work / "run", workers=1,
    )
"""


def start_feeding(work: Path, *, num_steps: int, buffer: int = 16) -> subprocess.Popen[str]:
    """Start a producer in a process of its own."""
    text = SCRIPT.format(work=str(work), num_steps=num_steps, buffer=buffer)
    return subprocess.Popen(
        [sys.executable, "-c", text], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def reader(number: int) -> Any:
    from tunec.runtime.data.stream.place import Reader

    return Reader(done=number, wanted=number + 8, num_ranks=1)


@pytest.fixture
def feeding(work: Path) -> Iterator[subprocess.Popen[str]]:
    """A producer of a file that is much longer than it may be ahead."""
    write_rows(work / "a.jsonl", "a", 30_000)
    process = start_feeding(work, num_steps=100_000)
    yield process
    process.kill()
    process.wait()


def test_it_stays_a_little_ahead(work: Path, feeding: subprocess.Popen[str]) -> None:
    """The first samples are there before the file is read; the producer waits for the slowest rank, and cleans up."""
    place = Place(work / "run")
    runs.wait_until(lambda: len(place.chunks()) == AHEAD)
    assert place.chunks()[0].first == 0
    entries = Ledger(place.folder).entries()
    assert len(entries) == AHEAD
    assert entries[-1].drawn < 5000
    samples = stream(work / "run")[0]
    assert len(set(said(work, [samples[n] for n in range(200)]))) == 200
    # One rank of two has asked for more: the other still needs all there is.
    place.report(0, replace_ranks(reader(2000), 2))
    runs.wait_until(lambda: len(Ledger(place.folder).entries()) > AHEAD)
    assert place.chunks()[0].first == 0
    place.report(1, replace_ranks(reader(1900), 2))
    runs.wait_until(lambda: place.chunks()[0].end > 1900)
    assert place.chunks()[0].first <= 1900


def replace_ranks(known: Any, num_ranks: int) -> Any:
    from dataclasses import replace

    return replace(known, num_ranks=num_ranks)


def test_a_killed_producer_is_noticed(work: Path, feeding: subprocess.Popen[str]) -> None:
    """Who waits for data learns at once that they never come."""
    place = Place(work / "run")
    runs.wait_until(lambda: len(place.chunks()) == AHEAD)
    samples = stream(work / "run")[0]
    end = place.chunks()[-1].end
    os.kill(feeding.pid, signal.SIGKILL)
    assert len(samples[end - 1].input_ids) > 3
    with pytest.raises(UserError, match="was killed") as fault:
        samples[end]
    assert fault.value.code == ExitCode.LOST


@pytest.mark.heavy
def test_memory_does_not_grow_with_the_file(work: Path) -> None:
    """The producer of a file ten times as long needs no more memory."""
    peaks = []
    for count in (4_000, 40_000):
        write_rows(work / "a.jsonl", "a", count)
        process = start_feeding(work, num_steps=count // 8, buffer=1000)
        place, position, peak = Place(work / "run"), 0, 0
        while process.poll() is None:
            position = max([position, *(chunk.end for chunk in place.chunks())])
            place.report(0, reader(position))
            peak = peak_of(process.pid) or peak
        process.wait()
        assert Ledger(place.folder).entries()[-1].end >= count
        peaks.append(peak)
    assert peaks[1] < peaks[0] + 16 * 2**10


def peak_of(pid: int) -> int:
    """Return the most memory a process has had, in KiB; 0 when it is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("VmHWM")), 0)


def test_nobody_feeds(work: Path) -> None:
    """Without a producer there is an error that says what to start."""
    with pytest.raises(UserError, match="nobody reads the data"):
        stream(work / "run")


# Packing


def test_a_window_is_packed_well() -> None:
    """Ten thousand samples of the lengths that instructions have fill rows of 2048 tokens to 97 % and more."""
    lengths = np.clip(np.random.default_rng(0).lognormal(5.0, 0.9, 10_000), 8, 2048).astype(int)
    bins = best_fit(lengths, capacity=2048)
    assert lengths.sum() / (len(bins) * 2048) >= 0.97


def test_packed_chunks(work: Path) -> None:
    """Rows of a packed stream are full, hold every sample of their window once, and are numbered in one sequence."""
    feed([source(work, "a")], **arguments(work, packing="isolated", num_steps=20))
    samples = stream(work / "run")[0]
    chunks = Place(work / "run").chunks()
    assert [chunk.first for chunk in chunks[1:]] == [chunk.end for chunk in chunks[:-1]]
    rows = [samples[n] for n in range(chunks[0].end)]
    words = " ".join(said(work, rows)).replace("<|im_end|>", " ").split()
    assert sorted(words) == sorted(f"a{n}" for n in range(128))
    assert all(len(row.input_ids) <= 64 for row in rows)
    assert sum(len(row.parts) == 1 for row in rows) <= 1


def test_joined_chunks(work: Path) -> None:
    """For pretraining, samples stand end to end in rows of one length."""
    feed([source(work, "a")], **arguments(work, packing="joined", num_steps=2))
    samples = stream(work / "run")[0]
    assert [len(samples[n].input_ids) for n in range(8)] == [64] * 8


def test_the_head_is_what_a_preview_shows(work: Path) -> None:
    """A preview prepares the first rows alone, those held out for evaluation apart."""
    options = arguments(work)
    for name in ("num_steps", "global_size", "workers"):
        del options[name]
    (work / "run").mkdir()
    folder = head([source(work, "a")], **options, eval_rows=2, num_rows=10)
    train, evaluation = open_prepared(folder)
    assert said(work, train) == [f"a{n}" for n in range(2, 12)]
    assert said(work, evaluation) == ["a0", "a1"]
    (work / "a.jsonl").open("a").write("{\n")
    assert head([source(work, "a")], **options, eval_rows=2, num_rows=10) == folder


def test_messages_too(work: Path) -> None:
    """Any format can be a stream."""
    tiny.write_chats(work / "chat.jsonl", 24)
    feed(
        [Messages(path=work / "chat.jsonl", name="chat")],
        **arguments(work, options=Options(max_length=128, too_long="error"), num_steps=3),
    )
    assert len(stream(work / "run")[0]) == 24
