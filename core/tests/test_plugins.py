"""Loading plugins: by name, never silently, and always saying whose fault it is."""

import sys
from collections.abc import Callable

import pytest
from pop_before_smtp._plugins import installed, load

Install = Callable[..., str]


def problem_of(*names: str) -> str:
    _, problems = load(names)
    assert len(problems) == 1
    return problems[0]


def test_a_plugin_yields_its_parser(parser_plugin: str) -> None:
    registry, problems = load([parser_plugin])
    assert not problems
    assert [parser.name for parser in registry.parsers] == ["popd"]
    plugin = registry.plugins[0]
    assert (plugin.name, plugin.distribution, plugin.version) == ("popd", "example-popd", "1.2")


def test_what_is_not_named_is_never_imported(install: Install, parser_plugin: str) -> None:
    module = install("other", "raise SystemExit")
    load([parser_plugin])
    assert module not in sys.modules
    assert "other" in installed()


def test_a_missing_plugin() -> None:
    assert problem_of("uw_imapp") == (
        'plugins[0]: no plugin "uw_imapp" is installed; try: pip install pop-before-smtp-uw-imapp'
    )


def test_a_plugin_that_fails_to_import(install: Install) -> None:
    install("broken", "import no_such_module_anywhere")
    assert problem_of("broken") == (
        'plugins[0]: plugin "broken" (example-broken 1.2) fails to import: '
        "ModuleNotFoundError: No module named 'no_such_module_anywhere'"
    )


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("@hookimpl\ndef pop_before_smtp_parser(): yield 1", "pop_before_smtp_parser"),
        ("@hookimpl\ndef pop_before_smtp_parsers(): yield 1", "yields int where LogParser is due"),
        ("@hookimpl\ndef pop_before_smtp_writers(): yield LogParser(name='x', patterns=[])", "where Writer is due"),
        ("@hookimpl\ndef pop_before_smtp_parsers(): return 5", "not iterable"),
        ("@hookimpl\ndef pop_before_smtp_parsers(): yield LogParser(name=b'x', patterns=[])", "'name' must be"),
        ("@hookimpl\ndef pop_before_smtp_parsers(): yield LogParser(name='x')", "patterns"),
        ("@hookimpl\ndef pop_before_smtp_parsers(extra): yield 1", "extra"),
        ("", "neither parser nor writer"),
    ],
)
def test_a_broken_plugin_is_named_with_its_cause(install: Install, code: str, said: str) -> None:
    install("broken", "from pop_before_smtp import hookimpl, LogParser\n" + code)
    problem = problem_of("broken")
    assert problem.startswith('plugins[0]: plugin "broken" (example-broken 1.2)')
    assert said in problem
    assert "\n" not in problem


def test_two_distributions_under_one_name(install: Install) -> None:
    install("twin", "", distribution="first-twin")
    install("twin", "", distribution="second-twin")
    problem = problem_of("twin")
    assert "first-twin 1.2" in problem
    assert "second-twin 1.2" in problem


def test_a_plugin_for_another_core(install: Install) -> None:
    install("old", "", requires="pop-before-smtp~=1.4")
    assert "wants pop-before-smtp~=1.4" in problem_of("old")


def test_two_plugins_with_one_parser_name(install: Install, parser_plugin: str) -> None:
    code = """
        from pop_before_smtp import LogParser, hookimpl

        @hookimpl
        def pop_before_smtp_parsers():
            yield LogParser(name="popd", patterns=[])
    """
    install("again", code)
    _, problems = load([parser_plugin, "again"])
    assert problems == ['plugins: the parser name "popd" is claimed more than once, by popd, again']


def test_a_plugin_named_twice(parser_plugin: str) -> None:
    assert problem_of(parser_plugin, parser_plugin) == 'plugins[1]: "popd" is named twice'


def test_all_problems_at_once(install: Install) -> None:
    install("broken", "1 / 0")
    _, problems = load(["missing", "broken"])
    assert [problem.split(":")[0] for problem in problems] == ["plugins[0]", "plugins[1]"]
