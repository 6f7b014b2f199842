"""The kit for authors of plugins: subclass, name your parser or writer, and pytest runs the contract against it.

Import it on purpose (``from pop_before_smtp.testing import ParserTests``); nothing is loaded into pytest by itself.
Needs the extra ``testing`` of the core.
"""

import pytest

for _module in ("_corpus", "_parsers", "_writers"):
    pytest.register_assert_rewrite(f"{__name__}.{_module}")  # a failure shows the values

from ._clock import FakeClock  # noqa: E402 - registered before they are imported
from ._corpus import CorpusTests  # noqa: E402 - as above
from ._parsers import ParserTests, Sample  # noqa: E402 - as above
from ._writers import WriterTests  # noqa: E402 - as above

__all__ = ["CorpusTests", "FakeClock", "ParserTests", "Sample", "WriterTests"]
