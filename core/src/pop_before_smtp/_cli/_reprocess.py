"""``--reprocess``: run through a whole log as if each line happened at its own time, and touch nothing."""

from __future__ import annotations

import logging
from itertools import chain

from pop_before_smtp import _assembly as assembly
from pop_before_smtp import _host
from pop_before_smtp._config import Config
from pop_before_smtp._engine import Engine
from pop_before_smtp._sources import layout, read_all, single

_log = logging.getLogger("pop_before_smtp")


def reprocess(config: Config) -> None:
    """Log what would have been added and removed, in the log's own time, up to its end."""
    engine = assembly.engine(config, _host.look())
    start = None
    for source in chain.from_iterable(map(single, config.sources)):
        for batch in read_all("-" if source.name == "stdin" else str(source.path), layout(config, source)):
            for event in engine.matcher.feed(batch):
                start = event.at if start is None else start
                _expire(engine, event.at - start)
                _log.debug("found ip=%s", event.address)
                engine.apply([event], event.at - start, event.at)
                _tell(engine)
    _log.info("------ reached end of log file ------")


def _expire(engine: Engine, now: float) -> None:
    while (due := engine.next_due()) is not None and due <= now:
        for outlet in engine.outlets:
            outlet.expire(now)
        _tell(engine)


def _tell(engine: Engine) -> None:
    for outlet in engine.outlets:
        for address, added in outlet.changes().items():
            _log.info("added %s to DB" if added else "removed %s from DB", address)
