"""Print one table of all figures, or of the modules named: ``python -m bench [match] [latency] ...``."""

from __future__ import annotations

import importlib
import sys
import time

MODULES = ("match", "latency", "leases", "state", "growth", "lookup", "maps")


def main() -> None:
    """Run the modules one after another and print each row when it is known."""
    for name in sys.argv[1:] or MODULES:
        start = time.monotonic()
        print(f"{name}:", flush=True)
        for what, figure, target in importlib.import_module(f"bench.{name}").rows():
            print(f"  {what:<58} {figure:>14}  {target}", flush=True)
        print(f"  ({time.monotonic() - start:.0f} s)")


if __name__ == "__main__":
    main()
