from __future__ import annotations

import os
from pathlib import Path

import pytest
from pop_before_smtp.maps import check_directory
from pop_before_smtp.maps._files import beside, replacement


class TestCheckDirectory:
    def test_good(self, tmp_path: Path) -> None:
        tmp_path.chmod(0o755)
        assert check_directory(tmp_path) is None

    def test_missing(self, tmp_path: Path) -> None:
        assert "does not exist" in (check_directory(tmp_path / "no") or "")

    def test_file(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        assert "is not a directory" in (check_directory(tmp_path / "file") or "")
        assert "cannot be used" in (check_directory(tmp_path / "file" / "x") or "")

    @pytest.mark.parametrize("mode", [0o775, 0o757, 0o1777, 0o2770])
    def test_writable_by_others(self, tmp_path: Path, mode: int) -> None:
        tmp_path.chmod(mode)
        assert "chmod go-w" in (check_directory(tmp_path) or "")

    def test_not_ours(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(os, "access", lambda *_, **__: False)
        tmp_path.chmod(0o755)
        assert "is not writable for user id" in (check_directory(tmp_path) or "")

    def test_a_symlink_is_followed(self, tmp_path: Path) -> None:
        real = tmp_path / "real"
        real.mkdir(mode=0o755)
        link = tmp_path / "link"
        link.symlink_to(real)
        assert check_directory(link) is None
        real.chmod(0o777)
        assert check_directory(link)


class TestReplacement:
    def test_takes_the_place(self, tmp_path: Path) -> None:
        path = tmp_path / "map"
        path.write_text("old")
        with path.open() as reader:
            with replacement(path, 0o640) as new:
                new.write_text("new")
                assert path.read_text() == "old"
            assert reader.read() == "old"
        assert path.read_text() == "new"
        assert list(tmp_path.iterdir()) == [path]

    def test_vanishes_on_failure(self, tmp_path: Path) -> None:
        path = tmp_path / "map"
        path.write_text("old")

        def stop_halfway() -> None:
            with replacement(path, 0o640) as new:
                new.write_text("half")
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            stop_halfway()
        assert path.read_text() == "old"
        assert list(tmp_path.iterdir()) == [path]

    def test_what_a_killed_writer_left_goes(self, tmp_path: Path) -> None:
        path, victim = tmp_path / "map", tmp_path / "victim"
        victim.write_text("precious")
        beside(path, "new").symlink_to(victim)
        with replacement(path, 0o640) as new:
            new.write_text("new")
        assert victim.read_text() == "precious"
        assert sorted(tmp_path.iterdir()) == [path, victim]
        assert not path.is_symlink()

    @pytest.mark.parametrize(
        ("old", "new"), [(None, 0o640), (0o600, 0o600), (0o640, 0o640), (0o644, 0o644), (0o666, 0o644), (0o4771, 0o640)]
    )
    def test_mode(self, tmp_path: Path, old: int | None, new: int) -> None:
        path = tmp_path / "map"
        if old is not None:
            path.touch()
            path.chmod(old)
        with replacement(path, 0o640):
            pass
        assert path.stat().st_mode & 0o7777 == new

    def test_owner_and_group_are_kept(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Told by the calls, since only root could see it in the file."""
        path = tmp_path / "map"
        path.touch()
        calls = []
        monkeypatch.setattr(os, "chown", lambda _, uid, gid: calls.append((uid, gid)))
        with replacement(path, 0o640):
            pass
        assert calls == [(-1, os.getgid()), (os.getuid(), -1)]

    def test_an_owner_that_we_may_not_set_is_no_failure(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*_: object) -> None:
            raise PermissionError

        path = tmp_path / "map"
        path.touch()
        monkeypatch.setattr(os, "chown", refuse)
        with replacement(path, 0o640) as new:
            new.write_text("new")
        assert path.read_text() == "new"
