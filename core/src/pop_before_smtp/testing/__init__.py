"""The kit for authors of plugins: subclass, name your parser or writer, and pytest runs the contract against it.

Import it on purpose (``from pop_before_smtp.testing import ParserTests``); nothing is loaded into pytest by itself.
Needs the extra ``testing`` of the core.
"""

from ._clock import FakeClock
from ._writers import WriterTests

__all__ = ["FakeClock", "WriterTests"]
