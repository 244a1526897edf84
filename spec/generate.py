"""Writes the generated pages of the specification; with ``--check`` says which are stale instead.

    python spec/generate.py           write the pages that are stale
    python spec/generate.py --check   exit 1 and name the stale ones

The pages depend on the program and its tests alone: no date, no path, no order of a hash map.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import coordination_tables
import diagrams
import invariants
import risk_tables
import settings_page
import tables

FOLDER = Path(__file__).resolve().parent
PAGES = {
    "tables.md": tables.render,
    "risk.md": risk_tables.render,
    "coordination.md": coordination_tables.render,
    "settings.md": settings_page.render,
    "diagrams.md": diagrams.render,
    "invariants.md": invariants.render,
}


def stale() -> dict[str, str]:
    """The pages that differ from what the program says now, each with its new text."""
    pages = {name: render() for name, render in PAGES.items()}
    return {name: text for name, text in pages.items() if not _is_current(FOLDER / name, text)}


def _is_current(path: Path, text: str) -> bool:
    return path.exists() and path.read_text("utf-8") == text


def main(arguments: Sequence[str]) -> int:
    """The exit code: 0 when all is well, 1 when a page was stale under ``--check``, 2 for a wrong argument."""
    if list(arguments) not in ([], ["--check"]):
        print(f"usage: python spec/generate.py [--check]; {' '.join(arguments)!r} is neither", file=sys.stderr)
        return 2
    pages = stale()
    for name, text in pages.items():
        if arguments:
            print(f"spec/{name} is stale; run python spec/generate.py", file=sys.stderr)
        else:
            (FOLDER / name).write_text(text, "utf-8")
            print(f"wrote spec/{name}")
    return 1 if pages and arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
