"""TOML data to attrs classes: strict types, every problem at once, each with the path of its key."""

from __future__ import annotations

import difflib
import ipaddress
import re
import zoneinfo
from pathlib import Path
from typing import Any, Literal, NewType, TypeVar, get_args, get_origin

import attrs
import cattrs
from cattrs import AttributeValidationNote, BaseValidationError, IterableValidationNote
from cattrs.errors import ForbiddenExtraKeysError
from cattrs.gen import make_dict_structure_fn

from .api import Network

T = TypeVar("T")

Seconds = NewType("Seconds", float)
"""A length of time: an integer number of seconds, or text as ``90s``, ``30m``, ``2h``, ``1d``."""

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_FORBIDDEN_NETWORK_BITS = "has host bits set"


def structure(data: dict[str, Any], kind: type[T], path: str = "") -> tuple[T | None, list[str]]:
    """Build ``kind`` from a TOML table.

    Args:
        data: the table.
        kind: an attrs class.
        path: the key under which the table stands, for the problems' text.

    Returns:
        The object, or None and one line per problem, as ``policy.exempt[1]: "x" is no network``.
    """
    try:
        return _CONVERTER.structure(data, kind), []
    except BaseValidationError as errors:
        return None, sorted(_lines(errors, path))


def seconds(value: object) -> Seconds:
    """Read a duration. Raises ValueError with the text for people."""
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return Seconds(value)
    match = re.fullmatch(r"([0-9]+)\s*([smhd])", value) if isinstance(value, str) else None
    if match and int(match[1]):
        return Seconds(int(match[1]) * _UNITS[match[2]])
    raise ValueError(f'{_show(value)} is no duration; write "30m", "90s", "2h", "1d" or whole seconds')


def _network(value: object, _kind: object) -> Network:
    if isinstance(value, str):
        try:
            return ipaddress.ip_network(value)
        except ValueError as error:
            if _FORBIDDEN_NETWORK_BITS in str(error):
                meant = ipaddress.ip_network(value, strict=False)
                raise ValueError(f'{_show(value)} is no network; did you mean "{meant}"?') from None
    raise ValueError(f'{_show(value)} is no network; write "192.0.2.0/24" or "2001:db8::/32"')


def _path(value: object, _kind: object) -> Path:
    if not isinstance(value, str) or not value:
        raise ValueError(f"{_show(value)} is no path")
    return Path(value)


def _zone(value: object, _kind: object) -> zoneinfo.ZoneInfo:
    try:
        return zoneinfo.ZoneInfo(str(value))
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f'{_show(value)} is no time zone; write one as "Europe/Berlin" or "UTC"') from None


def _strict(kind: type, name: str) -> Any:
    def hook(value: object, _kind: object) -> Any:
        if type(value) is not kind:
            raise ValueError(f"{_show(value)} is no {name}")
        return value

    return hook


def _converter() -> cattrs.Converter:
    converter = cattrs.Converter(forbid_extra_keys=True)
    converter.register_structure_hook(str, _strict(str, "text"))
    converter.register_structure_hook(bool, _strict(bool, "boolean; write true or false"))
    converter.register_structure_hook(int, _strict(int, "whole number"))
    converter.register_structure_hook(Seconds, lambda value, _: seconds(value))
    converter.register_structure_hook(Path, _path)
    converter.register_structure_hook(zoneinfo.ZoneInfo, _zone)
    converter.register_structure_hook_func(lambda kind: kind == Network, _network)
    converter.register_structure_hook_func(_is_list, _list_hook(converter))
    converter.register_structure_hook_func(_is_choice, _choice)
    converter.register_structure_hook_factory(attrs.has, lambda kind: _table_hook(converter, kind))
    return converter


def _is_list(kind: Any) -> bool:
    return get_origin(kind) is tuple


def _is_choice(kind: Any) -> bool:
    return get_origin(kind) is Literal


def _choice(value: object, kind: Any) -> object:
    if not any(value == choice and type(value) is type(choice) for choice in get_args(kind)):
        raise ValueError(f"{_show(value)} is none of {', '.join(map(_show, get_args(kind)))}")
    return value


def _list_hook(converter: cattrs.Converter) -> Any:
    def hook(value: object, kind: Any) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise ValueError(f"{_show(value)} is no list")  # noqa: TRY004 - one family of errors for all wrong values
        item = get_args(kind)[0]
        done, errors = [], []
        for index, one in enumerate(value):
            try:
                done.append(converter.structure(one, item))
            except (ValueError, BaseValidationError) as error:
                error.add_note(IterableValidationNote("", index, item))
                errors.append(error)
        if errors:
            raise cattrs.IterableValidationError("list", errors, tuple)
        return tuple(done)

    return hook


def _table_hook(converter: cattrs.Converter, kind: type) -> Any:
    inner: Any = make_dict_structure_fn(kind, converter, _cattrs_forbid_extra_keys=True)

    def hook(value: object, _kind: object) -> Any:
        if not isinstance(value, dict):
            raise ValueError(f"{_show(value)} is no table")  # noqa: TRY004 - as above
        return inner(value, kind)

    return hook


_CONVERTER = _converter()


def _lines(error: BaseException, path: str) -> list[str]:
    if isinstance(error, BaseValidationError):
        return [line for one in error.exceptions for line in _lines(one, _extend(path, one))]
    if isinstance(error, ForbiddenExtraKeysError):
        known = [attribute.name for attribute in attrs.fields(error.cl)] if attrs.has(error.cl) else []
        return [unknown(_join(path, key), key, known) for key in error.extra_fields]
    if isinstance(error, KeyError):
        return [f"{_join(path, error.args[0])}: is missing"]
    return [f"{path or 'configuration'}: {_plain(error)}"]


def unknown(path: str, key: str, known: list[str]) -> str:
    """Word the problem of a key that nobody reads."""
    close = difflib.get_close_matches(key, known, 1, 0.6)
    return f"{path}: unknown key" + (f'; did you mean "{close[0]}"?' if close else "")


def _extend(path: str, error: BaseException) -> str:
    for note in getattr(error, "__notes__", ()):
        if isinstance(note, AttributeValidationNote) and not isinstance(error, KeyError):
            return _join(path, note.name)
        if isinstance(note, IterableValidationNote):
            return f"{path}[{note.index}]"
    return path


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _plain(error: BaseException) -> str:
    if isinstance(error, ValueError):
        return str(error)
    return f"has the wrong type ({error})"


def _show(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else repr(value)
