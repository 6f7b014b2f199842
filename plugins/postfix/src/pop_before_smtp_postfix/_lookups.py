"""The sockets at which Postfix can ask instead of opening a table: a socketmap, and a policy service."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePath

from pop_before_smtp.api import Lookup, Map
from pop_before_smtp.errors import ConfigError

from ._maps import Settings, offer_problems, open_map, other_problems, split

_MODE = "0666"
"""Postfix asks as a user of its own; the directory keeps all others out."""


def open_writer(settings: Settings) -> Map | Lookup:
    """Return the map or the socket that the settings name; nothing on disk is touched.

    Raises:
        ConfigError: Postfix could not use it, or we could not write it.
    """
    protocol, place = split(settings.map)
    if protocol not in {"socketmap", "policy"}:
        return open_map(settings)
    if problems := [*_problems(settings, protocol, place), *other_problems(settings)]:
        raise ConfigError(*problems)
    return Lookup(
        protocol="socketmap" if protocol == "socketmap" else "policy",
        listen=place,
        reply=settings.value,
        mode=settings.mode or _MODE,
        group=settings.group,
        allow_remote=settings.allow_remote,
    )


def needle(settings: Settings) -> str:
    """Return what every spelling of the map in main.cf has in it: Postfix may see a socket below its own root."""
    protocol, place = split(settings.map)
    if protocol not in {"socketmap", "policy"} or not place.startswith("unix:"):
        return place if protocol in {"socketmap", "policy"} else settings.map
    return "/".join(PurePath(place.removeprefix("unix:")).parts[-2:])


def _problems(settings: Settings, protocol: str, place: str) -> Iterator[str]:
    if place.startswith("unix:") and (name := place.removeprefix("unix:").partition(":")[2]):
        yield f"map: leave out the name behind the socket (:{name}) here; main.cf has it"
    if place.startswith("inet:"):
        keys = (key for key in ("mode", "group") if getattr(settings, key) is not None)
        yield from (f"{key}: only a unix: socket has it; remove it" for key in keys)
    elif settings.allow_remote:
        yield "allow_remote: only an inet: socket has it; remove it"
    if protocol == "socketmap":
        yield from offer_problems(protocol, settings)
