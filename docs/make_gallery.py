"""Runs the experiments of the lab and writes docs/gallery/ and docs/claims.md.

python docs/make_gallery.py                  # all, in two processes
python docs/make_gallery.py NAME ...         # these only
python docs/make_gallery.py --redraw         # figures and pages from the results that are there
"""

import os
import sys
from pathlib import Path

from isograd.lab.claims import table
from isograd.lab.experiments import EXPERIMENTS, questions
from isograd.lab.result import Result
from isograd.lab.verifying import verify
from isograd.lab.writing import read, write

DOCS = Path(__file__).parent
GALLERY = DOCS / "gallery"
SUFFIXES = (".json", ".png", ".md")
HEAD = """# Gallery

What the lab shows, one picture per experiment; each has a page with its numbers, its claims and
its code. `isograd lab run NAME` does one again, `make gallery` all of them. Numbers and claims side
by side: [claims.md](../claims.md).

| | |
|---|---|
"""


def results() -> dict[str, Result]:
    """The results in the gallery, by name of the experiment."""
    found = (read(path) for path in sorted(GALLERY.glob("*.json")))
    return {one.experiment: one for one in found if one.scale == "standard"}


def index() -> str:
    """The page of all pictures."""
    told = questions()
    rows = [
        f"| [![{told[name]}]({name}.png)]({name}.md) | [{told[name]}]({name}.md) |"
        for name in results()
    ]
    return HEAD + "\n".join(rows) + "\n"


def write_pages() -> None:
    """The index, and the table of claims."""
    (GALLERY / "README.md").write_text(index(), encoding="utf-8")
    (DOCS / "claims.md").write_text(table(EXPERIMENTS, results()), encoding="utf-8")


def main(words: list[str]) -> int:
    """Runs what is named, or everything; 1 if a number did not come out."""
    if words == ["--redraw"]:
        for result in results().values():
            write(EXPERIMENTS[result.experiment], result, GALLERY, SUFFIXES)
        write_pages()
        return 0
    names = words or list(questions())
    jobs = min(os.cpu_count() or 1, len(names))
    missed = []
    for one in verify(names, "standard", jobs=jobs, folder=GALLERY, suffixes=SUFFIXES):
        print(
            "ok  " if one.ok else "MISS", one.name, f"{one.seconds:.0f} s", one.trouble, flush=True
        )
        for check in one.checks:
            if not check.met:
                print("     ", check.number, check.measured, "expected", check.wanted, flush=True)
        missed += [] if one.ok else [one.name]
    write_pages()
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
