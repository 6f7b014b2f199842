"""The maps of sendmail that can hold leases, and the socket at which it can ask for them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from importlib import import_module
from itertools import islice
from pathlib import Path

from attrs import frozen
from pop_before_smtp.api import Lookup, Map
from pop_before_smtp.errors import ConfigError
from pop_before_smtp.maps import FileMap
from pop_before_smtp.maps.text import TextMap

from ._cf import declared, file_of
from ._keys import canonical, spellings

CONFIG_FILE = "/etc/mail/sendmail.cf"


@frozen(kw_only=True)
class Settings:
    """The writer's own keys in a ``[[writer]]``."""

    map: str
    """``hash:/path``, ``btree:/path`` (without ``.db``), ``text:/path``, or ``socketmap:unix:/path``."""
    form: str = "popauth"
    """What reads it: ``popauth``, our m4 hack or FEATURE(drac); ``access``, sendmail's own access map."""
    config_file: str = CONFIG_FILE
    """Which of several sendmails this is for."""


@frozen
class _Form:
    """What stands before each key, the value, and how many spellings of an address are written.

    An access map is also asked for leading parts of addresses, and ``ipv6:2001:db8::1`` is one of
    ``ipv6:2001:db8::1:2``: what is shortened would open more than itself.
    """

    tag: str
    value: str
    spellings: int


FORMS = {"popauth": _Form("", "OK", 2), "access": _Form("connect:", "RELAY", 1)}
KINDS = ("hash", "btree", "text")
HACK = "popbeforesmtp"
"""The name of the map in our m4 hack."""

_EXAMPLE = "hash:/var/lib/pop-before-smtp/popauth"
_SOCKET = "socketmap:"
_SUFFIX = ".db"


def open_map(settings: Settings) -> Map | Lookup:
    """Return the map or the socket that the settings name; nothing on disk is touched.

    Raises:
        ConfigError: sendmail could not use it, or we could not write it.
    """
    problems = [*_map_problems(settings), *_other_problems(settings)]
    if problems:
        raise ConfigError(*problems)
    if settings.map.startswith(_SOCKET):
        listen = settings.map.removeprefix(_SOCKET)
        return Lookup(protocol="socketmap", listen=listen, reply=FORMS[settings.form].value, address=canonical)
    kind, path = split(settings.map)
    return _load(kind)(file_of(kind, path), FORMS[settings.form])


def defaults(directory: Path) -> Mapping[str, object] | None:  # noqa: ARG001 - sendmail.cf says where the map is
    """Return the settings for the map of our hack in sendmail.cf; None without it."""
    try:
        ours = declared(CONFIG_FILE).get(HACK)
    except OSError:
        return None
    if ours is None or ours.kind not in KINDS or ours.file is None:
        return None
    return {"map": f"{ours.kind}:{str(ours.file).removesuffix(_SUFFIX)}"}


def split(spec: str) -> tuple[str, str]:
    """Take ``kind:path`` apart."""
    kind, _, path = spec.partition(":")
    return kind, path


def _map_problems(settings: Settings) -> Iterator[str]:
    kind, path = split(settings.map)
    if kind == _SOCKET[:-1]:
        if settings.form != "popauth":
            yield f"map: {kind} answers for whole addresses, which is form = 'popauth'; an access map is a file"
        return
    if kind not in KINDS:
        yield f"map: {settings.map!r} is none of {', '.join(KINDS)} and socketmap; write for example {_EXAMPLE}"
        return
    if not path.startswith("/") or path.endswith("/") or path.split() != [path]:
        yield f"map: {settings.map!r} needs the absolute path of a file, without blanks, as {_EXAMPLE}"
    elif kind != "text" and path.endswith(_SUFFIX):
        yield f"map: sendmail adds {_SUFFIX} itself; write {settings.map.removesuffix(_SUFFIX)}"
    try:
        _load(kind)
    except ImportError as error:
        yield f"map: {kind} maps need: pip install 'pop-before-smtp-sendmail[bdb]' ({error}); text: needs nothing"


def _other_problems(settings: Settings) -> Iterator[str]:
    if settings.form not in FORMS:
        yield f"form: {settings.form!r} is none of {', '.join(FORMS)}"
    if not settings.config_file.startswith("/"):
        yield f"config_file: {settings.config_file!r} is no absolute path"


class _SendmailMap(FileMap):
    """A map with the spellings of each address.

    Everybody may read it, for a sendmail that runs as root heeds permissions, and ignores a map that is not for it.
    """

    def __init__(self, path: Path, form: _Form, *, separator: str = "") -> None:
        super().__init__(path, value=separator + form.value, mode=0o644)
        self._form = form

    def items(self, keys: AbstractSet[str]) -> Iterable[tuple[bytes, bytes]]:
        """Return the spellings, those of one address together."""
        tag, most = self._form.tag, self._form.spellings
        return ((f"{tag}{text}".encode(), self._value) for key in sorted(keys) for text in islice(spellings(key), most))


class _Text(_SendmailMap, TextMap):
    """``203.0.113.7 OK``, a line each."""

    def __init__(self, path: Path, form: _Form) -> None:
        super().__init__(path, form, separator=" ")


def _load(kind: str) -> type[_Text]:
    if kind == "text":
        return _Text
    module = import_module("pop_before_smtp.maps.bdb")
    return type(kind, (_SendmailMap, {"hash": module.HashMap, "btree": module.BtreeMap}[kind]), {})
