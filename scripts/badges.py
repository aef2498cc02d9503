"""Stamp the repository's address and tag into README and notebooks.

    python scripts/badges.py            # write them
    python scripts/badges.py --check    # say which file is not up to date, and fail

The address stands in ``pyproject.toml`` (``project.urls.Repository``), the tag beside it.
"""

import re
import sys
import tomllib
from pathlib import Path

from helpers.run.files import ROOT

_PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
REPOSITORY: str = _PROJECT["project"]["urls"]["Repository"]
TAG: str = _PROJECT["tool"]["look-inside"]["tag"]


def stamp(text: str) -> str:
    """Return the text with every Colab link, clone command and repository link up to date."""
    slug = REPOSITORY.removeprefix("https://github.com/")
    text = re.sub(
        r"(colab\.research\.google\.com/github)/[\w.-]+/[\w.-]+/blob/[^/\s]+/",
        rf"\1/{slug}/blob/{TAG}/",
        text,
    )
    text = re.sub(
        r"(git clone [^\n]*--branch )\S+ https://github\.com/[\w.-]+/[\w.-]+",
        rf"\g<1>{TAG} {REPOSITORY}",
        text,
    )
    return re.sub(r"https://github\.com/[\w.-]+/look-inside(?![\w-])", REPOSITORY, text)


def stamped_files() -> list[Path]:
    """Return every file that holds the address."""
    return [ROOT / "README.md", *sorted((ROOT / "notebooks").glob("*.ipynb"))]


def main() -> int:
    """Stamp or check all files; return the exit status."""
    stale = [p for p in stamped_files() if stamp(p.read_text()) != p.read_text()]
    for path in stale:
        print(("not up to date: " if "--check" in sys.argv else "stamped ") + path.name)
        if "--check" not in sys.argv:
            path.write_text(stamp(path.read_text()))
    return int(bool(stale) and "--check" in sys.argv)


if __name__ == "__main__":
    sys.exit(main())
