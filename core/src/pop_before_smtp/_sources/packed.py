"""Compressed logs: decompressed a slice at a time, so that nothing else has to wait."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import tempfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from .opened import Opened

try:
    import zstandard
except ImportError:  # the extra zstd is not installed
    zstandard = None  # type: ignore[assignment]

_SLICE = 64 * 1024
"""So much is written at a time, in bytes: a millisecond's work at most."""
_SIP = 256
"""So much is given to zstd at a time, in bytes: it always returns all that this expands to."""
_ROOMY = "/var/tmp"  # noqa: S108 - a file without a name
"""Where a large file may lie; what is in /tmp is often kept in memory."""


class Damaged(Exception):  # noqa: N818 - no error: most often it is still being written
    """A compressed file is not whole."""


class Unreadable(Exception):  # noqa: N818 - no error: an extra that is not installed
    """Nothing here can decompress this."""


def _sliced(file: gzip.GzipFile | lzma.LZMAFile | bz2.BZ2File) -> Iterator[bytes]:
    return iter(lambda: file.read(_SLICE), b"")


def _zstd(file: BinaryIO) -> Iterator[bytes]:
    if zstandard is None:
        raise Unreadable("reading it needs the extra zstd: pip install 'pop-before-smtp[zstd]'")
    context = zstandard.ZstdDecompressor()
    frame = context.decompressobj()
    plain = bytearray()
    data = file.read(_SIP)
    while data:
        if frame.eof:
            frame = context.decompressobj()
        plain += frame.decompress(data)
        if len(plain) >= _SLICE:
            yield bytes(plain)
            plain.clear()
        data = frame.unused_data if frame.eof and frame.unused_data else file.read(_SIP)
    if not frame.eof:
        raise EOFError
    yield bytes(plain)


_READERS: dict[str, Callable[[BinaryIO], Iterator[bytes]]] = {
    ".gz": lambda file: _sliced(gzip.GzipFile(fileobj=file)),
    ".xz": lambda file: _sliced(lzma.LZMAFile(file)),  # noqa: SIM115 - it owns nothing: closed is what it reads
    ".bz2": lambda file: _sliced(bz2.BZ2File(file)),
    ".zst": _zstd,
}
SUFFIXES = tuple(_READERS)
"""How the names of compressed files end."""
_DAMAGES: tuple[type[Exception], ...] = (EOFError, OSError, ValueError, zlib.error, lzma.LZMAError)
if zstandard:
    _DAMAGES = (*_DAMAGES, zstandard.ZstdError)


def unpack(path: Path) -> Iterator[Opened | None]:
    """Decompress a file into one without a name, and yield it at last.

    Before that None is yielded after each slice; closing the iterator drops everything.

    Raises:
        Damaged: it is not whole.
        Unreadable: the package for it is not installed.
        OSError: it cannot be opened, or there is no room for what it holds.
    """
    with path.open("rb") as packed, tempfile.TemporaryFile(dir=_ROOMY if os.access(_ROOMY, os.W_OK) else None) as plain:
        status = os.fstat(packed.fileno())
        slices = _READERS[path.suffix](packed)
        while (data := _next(slices)) is not None:
            plain.write(data)
            yield None
        plain.flush()
        yield Opened(os.dup(plain.fileno()), status, packed=True)


def _next(slices: Iterator[bytes]) -> bytes | None:
    try:
        return next(slices, None)
    except _DAMAGES as error:
        raise Damaged(str(error) or "it ends too early") from error
