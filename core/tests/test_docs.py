"""What operators read is true: every key, every command and every option stands there, and the examples are right."""

import re
import tomllib
from pathlib import Path

import attrs
import click
import pytest
from pop_before_smtp import _cli
from pop_before_smtp._config import OutletSettings, PolicySettings, SourceSettings, _File

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/configuration.md").read_text()
MANUAL = (ROOT / "packaging/pop-before-smtp.8").read_text()


def section(title: str) -> str:
    return next(part for part in PAGE.split("\n## ") if part.startswith(title))


@pytest.mark.parametrize(
    ("title", "settings", "elsewhere"),
    [
        ("Top level", _File, {"source", "policy", "writer"}),
        ("`[[source]]`", SourceSettings, set()),
        ("`[policy]`", PolicySettings, set()),
        ("`[[writer]]`", OutletSettings, set()),
    ],
)
def test_every_key_is_documented_and_no_other(title: str, settings: type, elsewhere: set[str]) -> None:
    rows = re.findall(r"^\| (`[^|]+) \|", section(title), re.MULTILINE)
    documented = {key for row in rows for key in re.findall(r"`(\w+)`", row)}
    assert documented == {field.name for field in attrs.fields(settings)} - elsewhere


def test_the_toml_in_the_pages_is_toml() -> None:
    pages = [*(ROOT / "docs").glob("*.md"), ROOT / "README.md"]
    blocks = [block for page in pages for block in re.findall(r"```toml\n(.*?)```", page.read_text(), re.DOTALL)]
    assert len(blocks) >= 2
    for block in blocks:
        assert tomllib.loads(block)


def test_the_tutorial_shows_the_plugin_that_is_tested() -> None:
    page = (ROOT / "docs/plugins.md").read_text()
    plugin = ROOT / "examples/plugin"
    for file in (plugin / "src/pop_before_smtp_popd/__init__.py", plugin / "tests/test_popd.py"):
        assert f"```python\n{file.read_text()}```" in page
    for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        compile(block, "docs/plugins.md", "exec")


def test_links_between_pages_lead_somewhere() -> None:
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *ROOT.glob("plugins/*/README.md")]
    for page in pages:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_command_and_option_is_in_the_manual() -> None:
    group = _cli.cli
    context = click.Context(group)
    for name in [*group.list_commands(context), "legacy"]:
        command = group.get_command(context, name)
        assert command is not None
        assert name == "legacy" or f".It Cm {name}\n" in MANUAL
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                named = "|".join(option.lstrip("-") for option in parameter.opts)
                assert re.search(rf"Fl (Fl )?(\[no\])?({named})\b", MANUAL), f"{name} --{named}"
