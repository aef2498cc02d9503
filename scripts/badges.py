"""Stamp the repository's address and tag into README and notebooks.

    python scripts/badges.py            # write them
    python scripts/badges.py --check    # say which file is not up to date, and fail

The address is that of the remote ``origin``, if it is on GitHub: Colab opens notebooks from there.
It is kept in ``pyproject.toml`` (``project.urls.Repository``), with the tag beside it; where there
is no such remote, the address there is taken, and to check is to compare with it.
"""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

from helpers.run.files import ROOT, atomic

_PYPROJECT = ROOT / "pyproject.toml"
_PROJECT = tomllib.loads(_PYPROJECT.read_text(encoding="utf-8"))
REPOSITORY: str = _PROJECT["project"]["urls"]["Repository"]
TAG: str = _PROJECT["tool"]["look-inside"]["tag"]
HOST = "https://github.com/"


def origin(folder: Path = ROOT) -> str:
    """Return the address of a checkout's remote ``origin`` on GitHub, without a password; or ""."""
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), "remote", "get-url", "origin"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
    except FileNotFoundError:  # no git
        return ""
    pattern = (
        r"(?:https://(?:[^@/]+@)?|(?:ssh://)?git@)github\.com[:/]([\w.-]+/[\w.-]+?)(?:\.git)?/?"
    )
    found = re.fullmatch(pattern, done.stdout.strip())
    return HOST + found[1] if found else ""


def stamp(text: str, repository: str = REPOSITORY) -> str:
    """Return the text with every Colab link, clone command and repository link up to date."""
    slug = repository.removeprefix(HOST)
    text = re.sub(
        r"(colab\.research\.google\.com/github)/[\w.-]+/[\w.-]+/blob/[^/\s]+/",
        rf"\1/{slug}/blob/{TAG}/",
        text,
    )
    folder = "" if slug.endswith("/look-inside") else " look-inside"  # where the commands go on
    text = re.sub(
        r"(git clone [^\n]*--branch )\S+ https://github\.com/[\w.-]+/[\w.-]+(?: look-inside\b)?",
        rf"\g<1>{TAG} {repository}{folder}",
        text,
    )
    old = rf"(?:{HOST}[\w.-]+/look-inside|{re.escape(REPOSITORY)})(?![\w-])"
    return re.sub(old, repository, text)


def stamped(path: Path, repository: str = REPOSITORY) -> str:
    """Return what a file should be; a notebook's outputs belong to its code as before."""
    text = path.read_text(encoding="utf-8")
    new = stamp(text, repository)
    if path.suffix == ".ipynb" and new != text:
        import nbformat  # here, for they take seconds
        from render import code_hash

        before, after = (code_hash(nbformat.reads(each, 4)) for each in (text, new))
        new = new.replace(f'"code_hash": "{before}"', f'"code_hash": "{after}"')
    return new


def stamped_files() -> list[Path]:
    """Return every file that holds the address."""
    return [ROOT / "README.md", *sorted((ROOT / "notebooks").glob("*.ipynb"))]


def write(path: Path, text: str) -> None:
    """Write a file whole, if it changes, and say so."""
    if text != path.read_text(encoding="utf-8"):
        with atomic(path) as partial:
            partial.write_text(text, encoding="utf-8")
        print(f"stamped {path.name}")


def main() -> int:
    """Stamp or check all files; return the exit status."""
    if "--check" in sys.argv:
        stale = [p for p in stamped_files() if stamped(p) != p.read_text(encoding="utf-8")]
        for path in stale:
            print(f"not up to date: {path.name}")
        return int(bool(stale))
    repository = origin() or REPOSITORY
    for path in stamped_files():
        write(path, stamped(path, repository))
    project = _PYPROJECT.read_text(encoding="utf-8")
    write(_PYPROJECT, project.replace(f'"{REPOSITORY}"', f'"{repository}"'))
    print(f"badges lead to {repository}, tag {TAG}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
