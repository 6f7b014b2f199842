from __future__ import annotations

import struct
import subprocess
import sys
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from pathlib import Path

import pytest
from berkeleydb import db
from hypothesis import given
from hypothesis import strategies as st
from pop_before_smtp.api import Changes
from pop_before_smtp.errors import MapError
from pop_before_smtp.maps import FileMap, bdb, cdb, lmdb, text

KEYS = frozenset({"192.0.2.1", "192.0.2.2", "2001:db8::1"})
FORMATS = (cdb.CdbMap, bdb.HashMap, bdb.BtreeMap, lmdb.LmdbMap, text.TextMap)


def fill(target: FileMap, keys: AbstractSet[str]) -> None:
    target.write(Changes(added=keys, removed=set(), current=keys))


def find(data: bytes, key: bytes) -> bytes | None:
    """Look a key up as a cdb reader does, through the hash tables."""
    hashed = 5381
    for byte in key:
        hashed = ((hashed << 5) + hashed & 0xFFFFFFFF) ^ byte
    table, size = struct.unpack_from("<II", data, 8 * (hashed % 256))
    for step in range(size):
        found, at = struct.unpack_from("<II", data, table + 8 * ((hashed // 256 + step) % size))
        if not at:
            return None
        key_size, value_size = struct.unpack_from("<II", data, at)
        if found == hashed and data[at + 8 : at + 8 + key_size] == key:
            return data[at + 8 + key_size : at + 8 + key_size + value_size]
    return None


class TestCdb:
    @given(items=st.dictionaries(st.binary(max_size=20), st.binary(max_size=5), max_size=50))
    def test_every_key_is_found_and_no_other(
        self, tmp_path_factory: pytest.TempPathFactory, items: dict[bytes, bytes]
    ) -> None:
        file = tmp_path_factory.getbasetemp() / "any.cdb"
        cdb.CdbMap(file).build(file, items.items())
        data = file.read_bytes()
        assert {key: find(data, key) for key in items} == items
        assert find(data, b"another key that is long") is None
        assert cdb.read(file) == items

    def test_many(self, tmp_path: Path) -> None:
        keys = {f"10.{high}.{low}.1" for high in range(20) for low in range(256)}
        target = cdb.CdbMap(tmp_path / "many", value="OK")
        fill(target, keys)
        data = target.path.read_bytes()
        assert all(find(data, key.encode()) == b"OK" for key in keys)
        assert find(data, b"10.20.0.1") is None

    def test_the_first_of_two_counts(self, tmp_path: Path) -> None:
        file = tmp_path / "twice"
        cdb.CdbMap(file).build(file, [(b"k", b"first"), (b"k", b"second")])
        assert cdb.read(file) == {b"k": b"first"}
        assert find(file.read_bytes(), b"k") == b"first"

    def test_empty(self, tmp_path: Path) -> None:
        fill(cdb.CdbMap(tmp_path / "empty"), set())
        assert (tmp_path / "empty").read_bytes() == struct.pack("<II", 2048, 0) * 256


class TestBdb:
    @pytest.mark.parametrize(("kind", "type_"), [(bdb.HashMap, db.DB_HASH), (bdb.BtreeMap, db.DB_BTREE)])
    def test_kind(self, tmp_path: Path, kind: type[FileMap], type_: int) -> None:
        fill(kind(tmp_path / "relay.db", value="OK", nul=True), KEYS)
        base = db.DB()
        base.open(str(tmp_path / "relay.db"), dbtype=db.DB_UNKNOWN, flags=db.DB_RDONLY)
        assert base.get_type() == type_
        assert base.get(b"2001:db8::1\0") == b"OK\0"
        base.close()

    def test_read_refuses_other_files(self, tmp_path: Path) -> None:
        (tmp_path / "other").write_bytes(b"x" * 4096)
        with pytest.raises(db.DBError):
            bdb.read(tmp_path / "other")


class TestText:
    def test_lines(self, tmp_path: Path) -> None:
        target = text.TextMap(tmp_path / "hosts", value="\tOK", mode=0o644)
        fill(target, KEYS)
        assert text.read(target.path) == [b"192.0.2.1\tOK", b"192.0.2.2\tOK", b"2001:db8::1\tOK"]
        assert target.path.stat().st_mode & 0o777 == 0o644


class Sendmail(bdb.HashMap):
    """Two spellings of an IPv6 address and a rule that always stays."""

    def items(self, keys: AbstractSet[str]) -> Iterable[tuple[bytes, bytes]]:
        yield b"127.0.0.1", b"OK"
        for key in keys:
            yield from ((b"ipv6:" + key.encode(), b"OK"), (b"IPv6:" + key.encode(), b"OK"))


def test_items_can_be_spelt_twice_and_stay(tmp_path: Path) -> None:
    target = Sendmail(tmp_path / "popauth.db")
    fill(target, {"2001:db8::1"})
    assert bdb.read(target.path).keys() == {b"127.0.0.1", b"ipv6:2001:db8::1", b"IPv6:2001:db8::1"}
    target.clear()
    assert bdb.read(target.path).keys() == {b"127.0.0.1"}


def test_networks_where_they_are_taken(tmp_path: Path) -> None:
    class Networks(text.TextMap):
        networks = True

    fill(Networks(tmp_path / "hosts"), {"192.0.2.0/24", "192.0.2.1"})
    with pytest.raises(MapError):
        fill(Networks(tmp_path / "hosts"), {"192.0.2.1/24"})


@pytest.mark.parametrize("kind", FORMATS)
class TestFileMap:
    def test_spelling(self, tmp_path: Path, kind: type[FileMap]) -> None:
        target = kind(tmp_path / "map", key=lambda key: f"connect:{key}", value="x", nul=True)
        assert target.item("192.0.2.1") == (b"connect:192.0.2.1\0", b"x\0")

    def test_leftovers_of_a_killed_writer_go(self, tmp_path: Path, kind: type[FileMap]) -> None:
        for purpose in ("new", "empty"):
            (tmp_path / f".map.{purpose}~").write_bytes(b"half a file")
        target = kind(tmp_path / "map")
        fill(target, KEYS)
        assert {path.name for path in tmp_path.iterdir()} == {"map", ".map.empty~"}
        target.clear()
        fill(target, KEYS)
        target.close()
        assert {path.name for path in tmp_path.iterdir()} == {"map"}

    def test_clear_before_any_write(self, tmp_path: Path, kind: type[FileMap]) -> None:
        target = kind(tmp_path / "map")
        target.path.write_bytes(b"an old map")
        target.clear()
        assert target.path.stat().st_size < 16384
        fill(target, KEYS)
        target.close()

    def test_a_key_that_was_never_added_is_found_out(self, tmp_path: Path, kind: type[FileMap]) -> None:
        """A wrong ``current`` is refused even where the changes look harmless."""
        target = kind(tmp_path / "map", nul=True)
        fill(target, KEYS)
        with pytest.raises(MapError, match=r"192\.0"):
            target.write(Changes(added={"192.0.2.9"}, removed=set(), current=KEYS | {"192.0.2.9", "192.0"}))
        target.close()

    def test_after_close_it_is_built_anew(self, tmp_path: Path, kind: type[FileMap]) -> None:
        target = kind(tmp_path / "map", nul=True)
        fill(target, KEYS)
        target.close()
        before = target.path.stat().st_ino
        target.write(Changes(added=set(), removed=set(), current=KEYS))
        assert target.path.stat().st_ino != before
        target.close()


def test_an_error_is_one_line(tmp_path: Path) -> None:
    target = cdb.CdbMap(tmp_path / "no" / "map")
    with pytest.raises(MapError) as caught:
        fill(target, KEYS)
    assert str(caught.value) == f"cannot write {tmp_path}/no/map: No such file or directory"


@pytest.mark.parametrize("extra", ["lmdb", "berkeleydb"])
def test_without_the_extras_the_rest_works(extra: str) -> None:
    code = f"import sys; sys.modules[{extra!r}] = None; import pop_before_smtp.maps.cdb, pop_before_smtp.maps.text"
    subprocess.run([sys.executable, "-c", code], check=True)
