"""Whole logs for commands that do not follow."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from pop_before_smtp._record import Layout
from pop_before_smtp._sources import read_all
from pop_before_smtp._sources.lines import BLOCK
from pop_before_smtp.errors import SourceError

CONTENTS = {
    "empty": b"",
    "one line": b"a\n",
    "unterminated": b"a\nb",
    "only unterminated": b"b",
    "exactly a block": b"x" * (BLOCK - 1) + b"\n" + b"y\n",
    "short lines": b"".join(b"line %d\n" % number for number in range(100_000)),
    "lines longer than the probe": (b"x" * 5000 + b"\n") * 100,
    "NUL and no UTF-8": b"\0\xff\n" * 100_000,
}


def standard_input(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fd = os.open(path, os.O_RDONLY)
    read = os.read
    monkeypatch.setattr(os, "read", lambda _, size: read(fd, min(size, 65536)))


@pytest.mark.parametrize("dash", [False, True], ids=["file", "standard input"])
@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS)
def test_every_byte_in_whole_lines(content: bytes, dash: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "log"
    path.write_bytes(content)
    if dash:
        standard_input(path, monkeypatch)
    batches = list(read_all("-" if dash else str(path), Layout(), received=17.0))
    assert b"".join(batch.data for batch in batches) == content
    position = 0
    for batch in batches:
        assert batch.position == position
        assert batch.data.endswith(b"\n") or batch is batches[-1]
        assert (batch.live, batch.limit, batch.received) == (True, float("inf"), 17.0)
        position += len(batch.data)


@pytest.mark.parametrize("dash", [False, True], ids=["file", "standard input"])
def test_a_long_line_counts_as_one(dash: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"a\n" + b"x" * 300_000 + b"\nb\n")
    if dash:
        standard_input(path, monkeypatch)
    batches = list(read_all("-" if dash else str(path), Layout()))
    assert b"".join(batch.data for batch in batches).count(b"\n") == 3
    assert (batches[-1].data, batches[-1].position) == (b"b\n", 300_003)


def test_what_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"does not exist$"):
        next(read_all(str(tmp_path / "missing"), Layout()))
    with pytest.raises(SourceError, match=r"is a directory, not a log file$"):
        next(read_all(str(tmp_path), Layout()))
