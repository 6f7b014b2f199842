"""``why``: what is remembered of an address, and why it may or may not relay."""

from __future__ import annotations

import logging
import os
import stat
import time
from datetime import datetime
from ipaddress import IPv6Address, ip_address
from pathlib import Path
from typing import Any

import click

from pop_before_smtp._clock import Clock
from pop_before_smtp._config import Config
from pop_before_smtp._engine import Engine
from pop_before_smtp._outlet import Outlet
from pop_before_smtp._statereader import Login, fold

from ._common import ago, config_option, iso, json_option, load, local, print_json, printable, span, start_log
from ._list import recall

_LINE = 8192
_WORDS = {
    "no_login": "no login is remembered; what became of a line in the log tells explain",
    "expired": "expired",
    "future": "its login is in the future of this clock",
    "never": "no client has such an address",
    "own_address": "it is this machine's own, or a gateway's",
    "trusted_proxy": "it is in policy.trusted_proxies",
    "refused_network": "it is in policy.refuse",
    "exempt": "it is in policy.exempt: it needs no lease",
    "private_address": "it is private, and policy.private_addresses refuses those",
    "container": "it is a container's, behind which clients look alike",
    "service": "this service is not among those that count",
    "user": "this user is not among those that count",
    "no_tls": "the login was not seen to use TLS, and policy.require_tls is set",
    "netblocks": "it is in a network that may relay already: it needs no lease",
    "max_leases": "there are policy.max_leases leases already",
    "max_addresses_per_user": "its user has newer logins from policy.max_addresses_per_user other addresses",
}


@click.command("why")
@config_option
@json_option
@click.argument("address")
def command(*, config_file: Path | None, as_json: bool, address: str) -> int:
    """Tell which logins of ADDRESS are remembered, and for each writer how long its lease lasts or why it has none.

    Needs only read access to the state directory. Exits with 0 if the address has a lease somewhere, else with 1.
    """
    start_log(level=logging.ERROR)
    found = why(load(config_file), Clock(), _canonical(address))
    if as_json:
        print_json(found)
    else:
        _show(found)
    return 0 if any(each["remaining"] is not None for each in found["writers"]) else 1


def _canonical(text: str) -> str:
    try:
        address = ip_address(text)
    except ValueError:
        raise click.UsageError(f"{printable(text)} is no address") from None
    if isinstance(address, IPv6Address):
        if address.scope_id is not None:
            raise click.UsageError(f"{printable(text)}: an address without a zone is wanted")
        address = address.ipv4_mapped or address
    return str(address)


def why(config: Config, clock: Clock, address: str) -> dict[str, Any]:
    """Return what is remembered of an address and what each writer makes of it today, as JSON data.

    Raises:
        StateError: the state cannot be read.
    """
    engine, logins = recall(config, clock, 0.0, address)
    series = fold(logins)[::-1]
    return {
        "address": address,
        "logins": [_login(login) for login in series],
        "writers": [_lease(engine, outlet, address, series, clock) for outlet in engine.outlets],
    }


def _login(login: Login) -> dict[str, Any]:
    times = {"first": iso(login.first), "last": iso(login.last)}
    return login._asdict() | times | {"line": log_line(login)}


def _lease(engine: Engine, outlet: Outlet, address: str, series: list[Login], clock: Clock) -> dict[str, Any]:
    now, wall = clock.now(), clock.wall()
    deadline = outlet.leases.deadline(address)
    lease: dict[str, Any] = {"writer": outlet.label, "remaining": None, "expires": None, "reason": None}
    if deadline is not None and deadline > now:
        return lease | {"remaining": round(deadline - now, 3), "expires": iso(wall + deadline - now)}
    reasons = [_reason(engine, outlet, login, wall) for login in series] or [_place(engine, outlet, address)]
    lease["reason"] = reasons[0]
    if reasons[0] == "expired":
        lease["expires"] = iso(series[0].last + outlet.grace)
    return lease


def _reason(engine: Engine, outlet: Outlet, login: Login, wall: float) -> str:
    """Return why a remembered login is worth no lease today."""
    reason = engine.policy.judge(login.remembered()) or outlet.judge(login.remembered())
    if reason:
        return reason
    if login.last > wall:
        return "future"
    if wall - login.last >= outlet.grace:
        return "expired"
    return "max_leases" if outlet.counts["max_leases"] else "max_addresses_per_user"


def _place(engine: Engine, outlet: Outlet, address: str) -> str:
    """Return why an address without a login has no lease: perhaps it never would get one."""
    return engine.policy.place(address) or ("netblocks" if address in outlet.netblocks else "no_login")


def log_line(login: Login) -> str | None:
    """Return the log line of a login if its file still holds it, may be read, and names the address there."""
    if not login.source.startswith("/"):
        return None
    try:
        file = os.open(login.source, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            return None
        start = max(0, login.position - 1)
        block = os.pread(file, _LINE, start)
    finally:
        os.close(file)
    if login.position and not block.startswith(b"\n"):
        return None
    line = block[login.position - start :].partition(b"\n")[0].decode("utf-8", "surrogateescape")
    return line if login.address in line and (login.user or "") in line else None


def _show(found: dict[str, Any]) -> None:
    click.echo(found["address"])
    for login in found["logins"]:
        tls = {None: "TLS unknown", True: "TLS", False: "no TLS"}[login["tls"]]
        who = f"user {printable(login['user'])}, service {printable(login['service'])}, {tls}, parser {login['parser']}"
        click.echo(f"  login: {who}")
        click.echo(f"    in {printable(login['source'])}, position {login['position']}")
        click.echo(f"    first {_time(login['first'])}, last {_time(login['last'])}")
        if login["line"] is not None:
            click.echo(f"    {printable(login['line'])}")
    for lease in found["writers"]:
        click.echo(f"  {lease['writer']}: {_verdict(lease)}")


def _verdict(lease: dict[str, Any]) -> str:
    if lease["remaining"] is not None:
        return f"may relay for {span(lease['remaining'])}, until {local(lease['expires'])}"
    ended = f" {_time(lease['expires'])}" if lease["expires"] else ""
    return f"no lease: {_WORDS.get(lease['reason'], lease['reason'])}{ended}"


def _time(stamp: str) -> str:
    return f"{local(stamp)} ({ago(time.time() - datetime.fromisoformat(stamp).timestamp())})"
