"""What all maps in files have in common: checked keys, errors in one line, and an empty map at hand."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator
from collections.abc import Set as AbstractSet
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import ClassVar

from pop_before_smtp.api import Changes, Map
from pop_before_smtp.errors import MapError

from ._files import beside, permit, replacement, sync
from ._keys import check_key

Item = tuple[bytes, bytes]


class FileMap(Map):
    """A map whose every write is a new file, renamed into place.

    Args:
        path: the file that the reader opens.
        value: what the reader finds under every key.
        key: how the reader spells an address.
        nul: keys and values end in NUL (Postfix's hash, btree and lmdb).
        mode: permissions of a file that did not exist; an existing one keeps its owner, group and reading rights.
    """

    failures: ClassVar[tuple[type[Exception], ...]] = (OSError,)
    """What building a file of this format may raise."""

    def __init__(
        self, path: Path, *, value: str = "", key: Callable[[str], str] = str, nul: bool = False, mode: int = 0o640
    ) -> None:
        self.path = path
        self._end = b"\0" if nul else b""
        self._value = value.encode() + self._end
        self._key = key
        self._mode = mode
        self._empty = beside(path, "empty")
        self._prepared = False  # the empty map lies beside the map
        self._stale = False  # but what always stays in the map has changed since
        self._cleared = False  # it took the map's place, and nothing was written since
        self._size: int | None = None  # keys in the map; None: unknown, so the next write builds it anew

    @abstractmethod
    def build(self, new: Path, items: Iterable[Item]) -> None:
        """Write all items to the empty file ``new``; syncing, permissions and renaming are the caller's."""

    def item(self, key: str) -> Item:
        """Return what the file holds for one address."""
        return self._key(key).encode() + self._end, self._value

    def items(self, keys: AbstractSet[str]) -> Iterable[Item]:
        """Return all that the file holds; override it for two spellings of a key or for rules that always stay."""
        return map(self.item, keys)

    def refresh(self) -> bool:
        """Look, before each write, at what always stays in the file; True if it has changed since the last look."""
        return False

    def update(self, changes: Changes) -> bool:  # noqa: ARG002 - for formats that can
        """Change the file that is there; False where it has to be built anew."""
        return False

    def replace(self, keys: AbstractSet[str]) -> None:
        """Build the map anew beside the old one and rename it into place."""
        with replacement(self.path, self._mode) as new:
            self.build(new, self.items(keys))

    def release(self) -> None:
        """Let go of the file, which is about to be replaced or closed."""

    def write(self, changes: Changes) -> None:
        """Make the map hold exactly ``changes.current``, see :meth:`pop_before_smtp.api.Map.write`."""
        size, self._size = self._size, None
        known = size is not None and size + len(changes.added) - len(changes.removed) == len(changes.current)
        self._check(changes.added if known else changes.current)
        with self._reported("write"):
            self._stale = self.refresh() or self._stale
            if self._stale or not self._prepared:
                self._prepare()
            if not (known and self.update(changes)):
                self.replace(changes.current)
        self._size, self._cleared = len(changes.current), False

    def clear(self) -> None:
        """Rename the empty map over the map."""
        self._size = None
        if self._cleared:
            return
        self.release()
        with self._reported("clear"):
            if not self._prepared:
                self._prepare()
            with suppress(OSError):
                permit(self._empty, self.path, self._mode)
            self._empty.replace(self.path)
            self._prepared, self._cleared = False, True
            sync(self.path.parent)

    def close(self) -> None:
        """Let go of the map and remove the empty one beside it."""
        self.release()
        self._size, self._prepared = None, False
        with suppress(OSError):
            self._empty.unlink(missing_ok=True)

    def _prepare(self) -> None:
        with replacement(self._empty, 0o600) as new:
            self.build(new, self.items(frozenset()))
        self._prepared, self._stale = True, False

    def _check(self, keys: AbstractSet[str]) -> None:
        for key in keys:
            try:
                check_key(key, networks=self.networks)
            except ValueError as error:
                raise MapError(f"cannot write {self.path}: {error}; nothing was changed") from error

    @contextmanager
    def _reported(self, task: str) -> Iterator[None]:
        try:
            yield
        except self.failures as error:
            cause = getattr(error, "strerror", None) or str(error)
            raise MapError(f"cannot {task} {self.path}: {' '.join(cause.split())}") from error
