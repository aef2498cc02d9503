"""Pack what is handed in: report, notebooks, code and LIME parameters, in one zip.

python scripts/submission.py build/submission.zip

The same files give the same zip, byte for byte. Weights, downloads and caches stay out, and
whoever unpacks it can run every notebook.
"""

import hashlib
import json
import re
import sys
import zipfile
from pathlib import Path

import nbformat
from render import code_hash

from helpers.run import files
from helpers.run.errors import WorkbookError, message

LARGEST = 20_000_000  # bytes
TOP = "look-inside"  # the folder that unpacking makes
EARLIEST = (1980, 1, 1, 0, 0, 0)  # one date for all files, the first that a zip can hold
CONTENTS = (
    "*.md", "*.yml", "*.toml", "LICENSE", "Makefile", "Snakefile", "notebooks/[0-9]*.ipynb",
    "helpers/**/*", "scripts/*.py", "docs/*.md", "docs/_static/*.svg", "data/README.md",
    "data/masks/*", "data/concepts/*", "data/weights/*",
    "report/report.tex", "report/references.bib",
)  # fmt: skip


def rendered_profile() -> str:
    """Return the profile that the outputs of all notebooks come from.

    Raises:
        WorkbookError: a notebook without outputs, with older ones than its code, or of another
            profile.
    """
    profiles = set()
    for path in sorted((files.ROOT / "notebooks").glob("[0-9]*.ipynb")):
        notebook = nbformat.read(path, 4)
        stamp = notebook.metadata.get("look_inside", {})
        if stamp.get("code_hash") != code_hash(notebook):
            raise WorkbookError(f"{path.name} was not run since its code changed: make render")
        profiles.add(stamp["profile"])
    if len(profiles) != 1:
        found = " and ".join(sorted(profiles)) or "none"
        raise WorkbookError(f"all notebooks must be of one profile, not {found}: make render")
    return profiles.pop()


def report_of(profile: str) -> Path:
    """Return the report that belongs to a profile: one just built, or the committed one.

    Raises:
        WorkbookError: there is none.
    """
    built = files.ROOT / "build" / profile / "report.pdf"
    committed = files.ROOT / "report" / "report.pdf"  # of profile laptop
    for path in [built, committed] if profile == "laptop" else [built]:
        if path.exists():
            return path
    raise WorkbookError(f"there is no report of profile {profile}: make report PROFILE={profile}")


def parameters_of(profile: str) -> list[Path]:
    """Return the LIME parameters that the run of a profile wrote, or none if it wrote none.

    Raises:
        WorkbookError: the file is not what that run recorded.
    """
    run = files.ROOT / "figures" / profile
    path, book = run / "explain_params.pkl", run / "results" / "06_lime.json"
    if not path.exists():
        return []
    numbers = json.loads(book.read_text())["numbers"] if book.exists() else {}
    made = numbers.get("handin/fingerprint", {}).get("value")
    if made != hashlib.sha256(path.read_bytes()).hexdigest():
        raise WorkbookError(
            f"{path.name} in figures/{profile} is not what the run of the report made: remove "
            f"figures/{profile}/results/06_lime.json and make run PROFILE={profile} again"
        )
    return [path]


def contents() -> dict[str, Path]:
    """Return every file of the zip by its name there.

    Raises:
        WorkbookError: notebooks or report are missing or do not belong together.
    """
    profile, root = rendered_profile(), files.ROOT
    paths = {path for pattern in CONTENTS for path in root.glob(pattern)}
    paths |= set((root / "figures" / profile / "results").glob("*.json"))
    readme = (root / "README.md").read_text()
    paths |= {root / link for link in re.findall(r"\]\(([^):#]+)", readme)}
    packed = {
        path.relative_to(root).as_posix(): path
        for path in paths
        if path.is_file() and "__pycache__" not in path.parts and path.name[0] != "."
    }
    packed["report/report.pdf"] = report_of(profile)
    return packed | {path.name: path for path in parameters_of(profile)}


def pack(target: Path) -> dict[str, Path]:
    """Write the zip, and return what :func:`contents` found.

    Raises:
        WorkbookError: as there, or the zip would be larger than 20 MB; nothing is written.
    """
    packed = contents()
    with files.atomic(target) as partial:
        with zipfile.ZipFile(partial, "w") as archive:
            for name, path in sorted(packed.items()):
                info = zipfile.ZipInfo(f"{TOP}/{name}", EARLIEST)
                info.create_system, info.external_attr = 3, 0o100644 << 16  # Unix, rw-r--r--
                archive.writestr(info, path.read_bytes(), zipfile.ZIP_DEFLATED, 9)
        if (size := partial.stat().st_size) > LARGEST:
            largest = max(packed, key=lambda name: packed[name].stat().st_size)
            raise WorkbookError(
                f"the zip would have {size / 1e6:.0f} MB, more than {LARGEST / 1e6:.0f}: draw "
                f"fewer or smaller images, first of all in {largest}"
            )
    return packed


def main() -> int:
    """Read the command line; return the exit status."""
    (target,) = map(Path, sys.argv[1:])
    try:
        packed = pack(target)
    except WorkbookError as error:
        print(message(error), file=sys.stderr)
        return 1
    print(f"{target}: {len(packed)} files, {target.stat().st_size / 1e6:.1f} MB")
    if "explain_params.pkl" not in packed:
        print("It has no explain_params.pkl: notebook 6 writes it.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
