"""The contract of a writer and its map, as tests."""

# ruff: noqa: S101, PLR2004 - a test kit asserts plain values

from __future__ import annotations

import os
import resource
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from pathlib import Path
from typing import Any

import attrs
import hypothesis
import pytest
from hypothesis import strategies as st

from pop_before_smtp.api import Changes, Map, Writer
from pop_before_smtp.errors import MapError

ONE = frozenset({"192.0.2.10"})
TWO = frozenset({"192.0.2.10", "2001:db8:9::10"})
MANY = frozenset({f"198.51.{high}.{low}" for high in range(8) for low in range(256)} | {"2001:db8::1"})
NONE: frozenset[str] = frozenset()

BAD = (
    "192.0.2",  # opens a /24 in Postfix
    "192",
    "192.0.2.10.",
    "192.0.2.010",
    "192.0.2.10\n",
    " 192.0.2.10",
    "2001:db8",
    "2001",
    "2001:db8:9:",
    "2001:DB8:9::10",
    "2001:db8:9:0:0:0:0:10",
    "2001:0db8:9::10",
    "::ffff:192.0.2.10",
    "::ffff:c000:20a",
    "fe80::1%eth0",
    "[2001:db8:9::10]",
    "192.0.2.0/24 ",
    "unknown",
    "",
)


class WriterTests:
    """Subclass it, set ``writer``, and say how to make settings and how to read the map the way the mail server does.

    ``read`` is best the mail server's own tool. A second thread calls it while the map is written, when it has to see
    the map of one moment.
    """

    writer: Writer
    mode = 0o640
    """The permissions of a new map file."""

    def settings(self, directory: Path) -> Any:
        """Return the writer's settings for a map in this directory."""
        raise NotImplementedError

    def read(self, target: Map) -> set[str]:
        """Return the addresses in the map, in the canonical spelling."""
        raise NotImplementedError

    @pytest.fixture
    def directory(self, tmp_path: Path) -> Path:
        """Give the empty directory for the map."""
        path = tmp_path / "maps"
        path.mkdir(mode=0o755)
        return path

    @pytest.fixture
    def target(self, directory: Path) -> Iterator[Map]:
        """Give the map, opened but never written."""
        target = self.writer.open(self.settings(directory))
        assert isinstance(target, Map)
        yield target
        target.close()

    def test_settings_are_frozen(self, directory: Path) -> None:
        """The settings are an attrs class whose objects cannot be changed."""
        made = self.settings(directory)
        assert isinstance(made, self.writer.settings)
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            setattr(made, attrs.fields(self.writer.settings)[0].name, None)

    def test_open_changes_nothing(self, directory: Path, target: Map) -> None:
        """No file appears before the first write."""
        assert not list(directory.iterdir())
        assert target.path.is_relative_to(directory)

    def test_netblocks_are_networks(self, directory: Path) -> None:
        """Every entry is a network and whether it is permitted."""
        if self.writer.netblocks is None:
            return
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = list(self.writer.netblocks(self.settings(directory)))
        for network, permitted in found:
            assert isinstance(network, IPv4Network | IPv6Network)
            assert isinstance(permitted, bool)

    @pytest.mark.parametrize("keys", [NONE, ONE, TWO, MANY], ids=["none", "one", "two", "many"])
    def test_first_write_builds_anew(self, target: Map, keys: frozenset[str]) -> None:
        """Whatever the file held before and whatever the changes say, ``current`` is what counts."""
        target.path.write_bytes(b"not a map")
        target.write(Changes(added=NONE, removed=NONE, current=keys))
        assert self.read(target) == keys

    def test_changes(self, target: Map) -> None:
        """Additions and removals, few and many, IPv4 and IPv6, always leave exactly ``current``."""
        before: frozenset[str] = NONE
        for keys in (ONE, TWO, MANY, ONE, NONE, MANY, TWO):
            put(target, keys, before)
            assert self.read(target) == keys
            before = keys

    def test_repetition_is_harmless(self, target: Map) -> None:
        """The same changes may come twice, as after a failure."""
        put(target, ONE)
        for _ in range(2):
            put(target, TWO, ONE)
            assert self.read(target) == TWO

    @pytest.mark.parametrize("key", BAD)
    def test_bad_key_is_refused(self, target: Map, key: str) -> None:
        """A key that is no whole canonical address never reaches the map, first write or not."""
        with pytest.raises(MapError):
            put(target, ONE | {key})
        put(target, ONE)
        with pytest.raises(MapError):
            put(target, ONE | {key}, ONE)
        assert self.read(target) == ONE
        put(target, TWO, ONE)
        assert self.read(target) == TWO

    def test_cut_key_is_refused(self, target: Map) -> None:
        """No address cut short, and no other spelling of one, is taken for an address."""

        @hypothesis.settings(max_examples=50, deadline=None)
        @hypothesis.given(address=st.ip_addresses(), end=st.integers(1, 38))
        def check(address: IPv4Address | IPv6Address, end: int) -> None:
            text = str(address)
            spellings = {text[:end], address.exploded, text.upper(), f"{text}%1", f"[{text}]", f"{text}/32"}
            spellings |= {f"::ffff:{text}", f"{text}\n"}
            for key in spellings - {text}:
                if not _canonical(key):
                    with pytest.raises(MapError):
                        put(target, {key})

        check()
        assert not target.path.exists()

    def test_networks_are_refused_unless_taken(self, target: Map) -> None:
        """A network is a key only where the map says that it takes networks, and only in its canonical spelling."""
        with pytest.raises(MapError):
            put(target, {"192.0.2.1/24"})
        if not target.networks:
            with pytest.raises(MapError):
                put(target, {"192.0.2.0/24"})

    def test_directory_gone(self, directory: Path, target: Map) -> None:
        """Without its directory a write fails in one line; the old map is whole, and the next write mends it."""
        put(target, TWO)
        aside = directory.rename(directory.with_name("aside"))
        directory.write_text("in the way")
        with pytest.raises(MapError) as caught:
            put(target, ONE, TWO)
        assert str(target.path) in str(caught.value)
        assert "\n" not in str(caught.value)
        directory.unlink()
        aside.rename(directory)
        assert self.read(target) == TWO
        target.write(Changes(added=NONE, removed=NONE, current=ONE))
        assert self.read(target) == ONE

    @pytest.mark.parametrize("room", [0, 1000, 16384])
    def test_full_disk(self, directory: Path, target: Map, room: int) -> None:
        """When nothing more can be written, the old map is whole and nothing is left lying about."""
        put(target, ONE)
        before = files(directory)
        with full_disk(room), pytest.raises(MapError):
            put(target, MANY, ONE)
        assert files(directory) == before
        assert self.read(target) == ONE
        target.write(Changes(added=NONE, removed=NONE, current=TWO))
        assert self.read(target) == TWO

    def test_clear_needs_no_room(self, target: Map) -> None:
        """The empty map is at hand since the first write; clearing twice and writing afterwards are fine."""
        put(target, MANY)
        for _ in range(2):
            with full_disk(0):
                target.clear()
                target.clear()
            assert self.read(target) == set()
            target.write(Changes(added=NONE, removed=NONE, current=TWO))
            assert self.read(target) == TWO

    @pytest.mark.parametrize("umask", [0o000, 0o077])
    def test_permissions(self, target: Map, umask: int) -> None:
        """The map has its permissions whatever the umask, empty or not."""
        old = os.umask(umask)
        try:
            put(target, ONE)
            assert target.path.stat().st_mode & 0o7777 == self.mode
            put(target, MANY, ONE)
            assert target.path.stat().st_mode & 0o7777 == self.mode
            target.clear()
            assert target.path.stat().st_mode & 0o7777 == self.mode
        finally:
            os.umask(old)

    def test_permissions_stay(self, directory: Path, target: Map) -> None:
        """What the operator granted on the file survives; what lets others write does not."""
        put(target, ONE)
        target.path.chmod(0o664)
        again = self.writer.open(self.settings(directory))
        assert isinstance(again, Map)
        put(again, TWO)
        assert target.path.stat().st_mode & 0o7777 == 0o644
        again.close()

    def test_nothing_is_left_beside(self, directory: Path, target: Map) -> None:
        """After the end no hidden or temporary file lies beside the map, which is still there."""
        put(target, TWO)
        put(target, ONE, TWO)
        target.close()
        assert not [name for name in files(directory) if name.startswith(".") or name.endswith((".new", ".tmp"))]
        assert self.read(target) == ONE

    def test_readers_never_see_half(self, target: Map) -> None:
        """While the map goes to and fro between two states, a reader sees one of them, whole."""
        put(target, ONE)
        seen: list[set[str]] = []
        done = threading.Event()

        def look() -> None:
            while not done.is_set():
                seen.append(self.read(target))

        reader = threading.Thread(target=look)
        reader.start()
        try:
            before = ONE
            for turn in range(60):
                keys = ONE if turn % 2 else MANY
                put(target, keys, before)
                before = keys
            while not seen and reader.is_alive():
                reader.join(0.01)
        finally:
            done.set()
            reader.join()
        assert seen
        assert all(one in (ONE, MANY) for one in seen)


def put(target: Map, keys: set[str] | frozenset[str], before: set[str] | frozenset[str] = NONE) -> None:
    """Write ``keys`` to a map that holds ``before``."""
    target.write(Changes(added=keys - before, removed=before - keys, current=keys))


def files(directory: Path) -> set[str]:
    """Return the names of all files in a directory."""
    return {path.name for path in directory.iterdir()}


@contextmanager
def full_disk(room: int) -> Iterator[None]:
    """Let no file grow beyond ``room`` bytes; works for root, too."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def _canonical(key: str) -> bool:
    try:
        address = ip_address(key)
    except ValueError:
        return False
    return str(address) == key and "%" not in key and not getattr(address, "ipv4_mapped", None)
