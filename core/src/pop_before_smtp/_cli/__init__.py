"""The command line: one module a command, thin."""

from __future__ import annotations

import importlib
import os
import sys

import click

from pop_before_smtp import __version__
from pop_before_smtp.errors import ConfigError, PopBeforeSmtpError

_COMMANDS = ("run", "check", "match", "explain", "list", "why", "status", "purge", "plugins")
_USAGE = 64
_INTERRUPTED = 130


class _Commands(click.Group):
    """Imports a command's module when it is asked for, so that ``--help`` and ``list`` start fast."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        if cmd_name not in (*_COMMANDS, "legacy"):
            return None
        module = importlib.import_module(f"._{cmd_name}", __name__)
        command: click.Command = module.command
        return command


@click.command(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="pop-before-smtp", message="%(prog)s %(version)s")
def cli() -> None:
    """Lets addresses that have just fetched mail by POP3 or IMAP send mail, for half an hour.

    Called without a command it takes the options of the original pop-before-smtp: see "pop-before-smtp legacy --help".
    Exit codes: 0 done, 1 failure, 64 wrong usage, 78 wrong configuration.
    """


def main(args: list[str] | None = None) -> None:
    """Run the command line and exit."""
    sys.exit(run(sys.argv[1:] if args is None else args))


def run(args: list[str]) -> int:
    """Run the command line and return the exit code; errors are one line each on standard error."""
    if not args or (args[0].startswith("-") and args[0] not in ("-h", "--help", "--version")):
        args = ["legacy", *args]
    try:
        result = cli.main(args, prog_name="pop-before-smtp", standalone_mode=False)
    except click.exceptions.Exit as end:
        return end.exit_code
    except (click.Abort, click.ClickException, PopBeforeSmtpError) as error:
        return _report(error)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return result if isinstance(result, int) else 0


def _report(error: click.Abort | click.ClickException | PopBeforeSmtpError) -> int:
    if isinstance(error, click.Abort):
        return _INTERRUPTED
    if isinstance(error, click.ClickException):
        click.echo(f"pop-before-smtp: {error.format_message().rstrip('.')}; see pop-before-smtp --help", err=True)
        return _USAGE
    lines = error.problems if isinstance(error, ConfigError) else [f"fatal error: {error}"]
    for line in lines:
        click.echo(f"pop-before-smtp: {line}", err=True)
    return error.exit_code
