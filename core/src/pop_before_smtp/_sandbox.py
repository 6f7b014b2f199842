"""A playground: an ordinary configuration in one directory, for a machine without a mail server."""

from __future__ import annotations

import shlex
import sys
import time
from pathlib import Path

import click

from ._plugins import installed
from .errors import ConfigError

_TEXT = """# Made by "pop-before-smtp run --sandbox". An ordinary configuration: change it as you like.
plugins = [{plugins}]
grace = "30m"
state_dir = "{directory}/state"

[[source]]
path = "{directory}/mail.log"

[policy]
private_addresses = "allow"

[[writer]]
use = "postfix"
map = "cdb:{directory}/relay"
netblocks = ["127.0.0.0/8"]
"""


def prepare(directory: Path) -> Path:
    """Make the directory, its log and its configuration where they are missing, and say what to do next.

    Returns:
        The configuration file.

    Raises:
        ConfigError: the directory cannot be made.
    """
    directory = directory.absolute()
    config, log = directory / "pop-before-smtp.toml", directory / "mail.log"
    try:
        directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        log.touch()
        if not config.exists():
            names = ", ".join(f'"{name}"' for name in installed())
            config.write_text(_TEXT.format(plugins=names, directory=directory))
    except OSError as error:
        raise ConfigError(f"--sandbox: {error.filename}: {error.strerror}; name another directory") from error
    stamp = time.strftime("%b %e %H:%M:%S")
    line = f"{stamp} mail dovecot: imap-login: Login: user=<ann>, method=PLAIN, rip=203.0.113.7, lip=192.0.2.1, TLS"
    click.echo(f"Following {log}. In another terminal, log somebody in:", err=True)
    click.echo(f"  echo {shlex.quote(line)} >> {shlex.quote(str(log))}", err=True)
    program = sys.argv[0] if Path(sys.argv[0]).name == "pop-before-smtp" else "pop-before-smtp"
    click.echo(f"and see the lease:  {shlex.quote(program)} list -c {shlex.quote(str(config))}", err=True)
    return config
