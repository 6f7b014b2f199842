"""What LMDB alone does: changes in place, under Postfix's lock, in a map that grows."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import lmdb as pylmdb
import pytest
from pop_before_smtp.api import Changes
from pop_before_smtp.errors import MapError
from pop_before_smtp.maps import lmdb
from pop_before_smtp.maps.lmdb import LmdbMap, read

ONE = frozenset({"192.0.2.1"})
TWO = ONE | {"2001:db8::1"}


@pytest.fixture
def target(tmp_path: Path) -> Iterator[LmdbMap]:
    target = LmdbMap(tmp_path / "relay.lmdb", value="OK", nul=True)
    put(target, ONE)
    yield target
    target.close()


def put(target: LmdbMap, keys: frozenset[str], before: frozenset[str] = frozenset()) -> None:
    target.write(Changes(added=keys - before, removed=before - keys, current=keys))


def keys(target: LmdbMap) -> set[str]:
    return {key.removesuffix(b"\0").decode() for key in read(target.path)}


@contextmanager
def locked_by_another(path: Path, kind: str) -> Iterator[None]:
    """Hold the lock that Postfix takes for a look-up, in another process."""
    code = f"import fcntl, sys; f = open({str(path)!r}, 'r+b'); fcntl.lockf(f, fcntl.{kind}); print('locked', flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.readline() == b"locked\n"
        yield
        process.communicate(b"")


def locked(path: Path) -> bool:
    """Tell whether another process would find the file locked against reading."""
    code = f"import fcntl; fcntl.lockf(open({str(path)!r}, 'rb'), fcntl.LOCK_SH | fcntl.LOCK_NB)"
    return subprocess.run([sys.executable, "-c", code], check=False, capture_output=True).returncode != 0


def test_a_change_keeps_the_file(target: LmdbMap) -> None:
    before = target.path.stat().st_ino
    put(target, TWO, ONE)
    assert target.path.stat().st_ino == before
    assert read(target.path) == {b"192.0.2.1\0": b"OK\0", b"2001:db8::1\0": b"OK\0"}


def test_an_open_reader_sees_the_change(target: LmdbMap) -> None:
    """As smtpd does within a session: opened once, asked before and after, through another process."""
    code = f"""
import lmdb, sys
env = lmdb.open({str(target.path)!r}, subdir=False, lock=False, readonly=True)
for line in sys.stdin:
    with env.begin() as txn:
        print(txn.get(line.strip().encode() + bytes(1)), flush=True)
"""
    argv = [sys.executable, "-c", code]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as process:
        assert process.stdin
        assert process.stdout

        def ask() -> bytes:
            assert process.stdin
            assert process.stdout
            process.stdin.write(b"2001:db8::1\n")
            return process.stdout.readline()

        assert ask() == b"None\n"
        put(target, TWO, ONE)
        assert ask() == b"b'OK\\x00'\n"
        put(target, ONE, TWO)
        assert ask() == b"None\n"
        process.communicate()


def test_no_lock_file(target: LmdbMap) -> None:
    put(target, TWO, ONE)
    assert {path.name for path in target.path.parent.iterdir()} == {"relay.lmdb", ".relay.lmdb.empty~"}


@pytest.mark.parametrize("kind", ["LOCK_SH", "LOCK_EX"])
def test_a_reader_cannot_freeze_us(target: LmdbMap, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr(LmdbMap, "patience", 0.05)
    before = target.path.stat().st_ino
    with locked_by_another(target.path, kind):
        start = time.monotonic()
        put(target, TWO, ONE)
        assert time.monotonic() - start < 1
        assert target.path.stat().st_ino != before
        assert keys(target) == TWO
    put(target, ONE, TWO)
    assert keys(target) == ONE


def test_the_wait_is_under_a_second() -> None:
    assert LmdbMap.patience < 1


def test_the_lock_is_held_during_the_transaction_only(target: LmdbMap, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    commit = lmdb._commit

    def spy(env: pylmdb.Environment, change: object) -> None:
        os.close(os.open(target.path, os.O_RDONLY))  # would drop a traditional lock of this process
        seen.append(locked(target.path))
        commit(env, change)  # type: ignore[arg-type]

    monkeypatch.setattr(lmdb, "_commit", spy)
    put(target, TWO, ONE)
    assert seen == [True]
    assert not locked(target.path)


def test_the_lock_goes_after_a_failure(target: LmdbMap, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise pylmdb.DiskError("no room")

    with monkeypatch.context() as patched:
        patched.setattr(lmdb, "_commit", fail)
        with pytest.raises(MapError, match="no room"):
            put(target, TWO, ONE)
    assert not locked(target.path)
    assert keys(target) == ONE
    target.write(Changes(added=frozenset(), removed=frozenset(), current=TWO))
    assert keys(target) == TWO


def test_the_map_grows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both when it is built and when it is changed."""
    monkeypatch.setattr(lmdb, "_SIZE", 64 * 1024)
    target = LmdbMap(tmp_path / "small.lmdb", value="x" * 1000)
    every = frozenset(f"10.0.{high}.{low}" for high in range(4) for low in range(256))
    put(target, ONE)
    inode = target.path.stat().st_ino
    put(target, ONE | every, ONE)
    assert target.path.stat().st_ino == inode
    assert target.path.stat().st_size > 64 * 1024
    assert keys(target) == ONE | every
    put(target, ONE, ONE | every)
    assert target.path.stat().st_ino == inode
    assert keys(target) == ONE
    target.close()
    put(target, every)
    assert keys(target) == every
    target.close()


def test_very_many_changes_make_a_new_file(target: LmdbMap, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LmdbMap, "limit", 10)
    before = target.path.stat().st_ino
    many = ONE | {f"10.0.0.{low}" for low in range(20)}
    put(target, many, ONE)
    assert target.path.stat().st_ino != before
    assert keys(target) == many


def test_a_file_that_somebody_replaced_is_built_anew(target: LmdbMap) -> None:
    target.path.rename(target.path.with_name("aside"))
    put(target, TWO, ONE)
    assert keys(target) == TWO
    target.path.unlink()
    put(target, ONE, TWO)
    assert keys(target) == ONE


def test_an_entry_of_somebody_else_goes(target: LmdbMap) -> None:
    code = f"""
import lmdb
with lmdb.open({str(target.path)!r}, subdir=False, lock=False) as env, env.begin(write=True) as txn:
    txn.put(b"203.0.113.66" + bytes(1), b"OK" + bytes(1))
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    assert "203.0.113.66" in keys(target)
    put(target, TWO, ONE)
    assert keys(target) == TWO


def test_read_waits_for_a_writer_and_gives_up(target: LmdbMap, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lmdb, "_try_lock", lambda *_: False)
    clock = iter(range(10))
    monkeypatch.setattr(time, "monotonic", lambda: float(next(clock)))
    with pytest.raises(TimeoutError):
        read(target.path)


def test_ofd_locks_are_postfix_locks(tmp_path: Path) -> None:
    """An open-file-description lock and a traditional one exclude each other."""
    path = tmp_path / "file"
    path.touch()
    with path.open("r+b") as file:
        assert lmdb._try_lock(file.fileno(), fcntl.F_WRLCK)
        assert locked(path)
        assert lmdb._try_lock(file.fileno(), fcntl.F_UNLCK)
        assert not locked(path)
        with locked_by_another(path, "LOCK_SH"):
            assert not lmdb._try_lock(file.fileno(), fcntl.F_WRLCK)
            assert lmdb._try_lock(file.fileno(), fcntl.F_RDLCK)
