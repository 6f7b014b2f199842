"""The contract for each table type, read with Postfix's own postmap where it is installed, else with our readers."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest
from pop_before_smtp.api import Map
from pop_before_smtp.testing import WriterTests
from pop_before_smtp_postfix import Settings, pop_before_smtp_writers

(WRITER,) = pop_before_smtp_writers()


class PostfixTests(WriterTests):
    writer = WRITER
    kind = ""
    module = ""

    @pytest.fixture(autouse=True)
    def _postfix(self, fake_postfix: Path) -> None:
        assert fake_postfix

    def settings(self, directory: Path) -> Settings:
        return Settings(map=f"{self.kind}:{directory}/relay")

    def read(self, target: Map) -> set[str]:
        found: dict[bytes, bytes] = import_module(f"pop_before_smtp.maps.{self.module}").read(target.path)
        end = b"" if self.kind == "cdb" else b"\0"
        assert set(found.values()) <= {b"OK" + end}
        assert all(key.endswith(end) for key in found)
        return {key.removesuffix(end).decode() for key in found}


class TestLmdb(PostfixTests):
    kind = module = "lmdb"


class TestCdb(PostfixTests):
    kind = module = "cdb"


class TestHash(PostfixTests):
    kind, module = "hash", "bdb"


class TestBtree(PostfixTests):
    kind, module = "btree", "bdb"
