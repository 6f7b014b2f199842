"""smtpd.conf(5) as far as the question goes who may relay: statements, macros, included files, tables, rules."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from attrs import Factory, define, frozen

_WORD = re.compile(r'\\\n|#[^\n]*|"(?:\\.|[^"\\])*"|<[^>\s]*>|[{}!,=\n]|[^\s{}!,="#<]+|[<"]')
_RULE = re.compile(r"(?:(?P<not>! )?from (?P<source>any|local|socket|src(?: \{[^}]*\}| [^ ]+)) )?(?P<all>for any )?")
_DEPTH = 8


class ConfigurationError(Exception):
    """A file cannot be read; one line says which and why."""


@frozen
class Rule:
    """A ``match``: whom it is about, and what becomes of their mail."""

    text: str
    source: str
    """``any``, ``local``, ``socket``, or behind ``src`` a table, an address, or ``{ several }``."""
    excluded: bool
    """It is about all others (``! from``)."""
    plain: bool
    """For every recipient, and nothing else is asked for."""
    rejects: bool


@define
class Configuration:
    """What stands in an smtpd.conf."""

    tables: dict[str, list[str]] = Factory(dict)
    """Name to what defines it: ``{``, values, ``}``, or one word, ``type:path``."""
    rules: list[Rule] = Factory(list)


def read(file: Path) -> Configuration:
    """Return what stands in a file and those that it includes.

    Raises:
        ConfigurationError: one of them cannot be read.
    """
    found = Configuration()
    macros: dict[str, str] = {}
    for statement in _statements(file, macros):
        match statement:
            case ["table", name, *definition]:
                found.tables[name] = definition
            case ["match", *words]:
                found.rules.append(_rule(words))
    return found


def words(text: str) -> list[str]:
    """Return the values between braces, without commas."""
    return [word for word in text.strip("{} ").split(" ") if word not in {"", ","}]


def _statements(file: Path, macros: dict[str, str], depth: int = 0) -> Iterator[list[str]]:
    """Yield each statement as its words; macros are replaced, included files take the place of their ``include``."""
    try:
        text = os.fsdecode(file.read_bytes())
    except OSError as error:
        raise ConfigurationError(f"{file} cannot be read ({error.strerror})") from error
    for statement in _split(text):
        match statement:
            case ["include", name] if depth < _DEPTH:
                yield from _statements(Path(name), macros, depth + 1)
            case [name, "=", *value]:
                macros[f"${name}"] = " ".join(value)
            case _:
                yield [macros.get(word, word) for word in statement]


def _split(text: str) -> Iterator[list[str]]:
    """Split into statements at the ends of lines, but not between braces."""
    statement: list[str] = []
    depth = 0
    for word in _WORD.findall(text + "\n"):
        if word == "\\\n" or word.startswith("#"):
            continue
        depth += (word == "{") - (word == "}")
        if word != "\n":
            statement.append(word.strip('"'))
        elif depth <= 0 and statement:
            yield statement
            statement = []
    if statement:
        yield statement


def _rule(statement: list[str]) -> Rule:
    """Understand one rule; the clauses may stand in any order, and what is missing means ``local``."""
    text = " ".join(statement)
    rejects = statement[-1:] == ["reject"] and statement[-2:-1] != ["action"]
    condition = text.removesuffix("reject") if rejects else text.rpartition("action ")[0]
    found = _RULE.fullmatch(condition) or _RULE.fullmatch(re.sub(r"^(for any )(.+)$", r"\2\1", condition))
    if found is None:
        return Rule(text, "", excluded=False, plain=False, rejects=rejects)
    source = (found["source"] or "local").removeprefix("src ")
    return Rule(text, source, excluded=bool(found["not"]), plain=bool(found["all"]), rejects=rejects)
