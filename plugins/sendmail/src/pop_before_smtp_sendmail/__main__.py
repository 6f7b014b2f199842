"""Print the m4 hack, for cf/hack/popbeforesmtp.m4."""

from __future__ import annotations

import sys
from importlib.resources import files

if __name__ == "__main__":
    sys.stdout.write(files(__package__).joinpath("popbeforesmtp.m4").read_text())
