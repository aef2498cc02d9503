"""Build the report of a run as a PDF, from figures and results alone.

python scripts/build_report.py quick build/quick/report.pdf
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import latex
from PIL import Image

from helpers.run.errors import WorkbookError, message
from helpers.run.files import ROOT, atomic

INSTALL = (
    "sudo apt-get install -y latexmk texlive-latex-recommended texlive-latex-extra "
    "texlive-fonts-recommended lmodern"
)
PHOTOGRAPHS = 300_000  # bytes; a figure whose PNG is larger shows photographs and not lines


def write_photographs(run: str, folder: Path) -> None:
    """Write the figures of photographs as JPEGs into ``folder``, a fifth of their size."""
    folder.mkdir(parents=True)
    for path in (ROOT / "figures" / run).glob("*.png"):
        if path.stat().st_size > PHOTOGRAPHS:
            picture = Image.open(path).convert("RGB")
            picture.thumbnail((1400, 1400))
            picture.save(folder / f"{path.stem}.jpg", quality=85)


def build(run: str, target: Path) -> None:
    """Write the PDF to ``target``; LaTeX works, and leaves its log, in ``build/<run>/report``.

    Raises:
        WorkbookError: no LaTeX, no results, or LaTeX found a fault, whose first line is given.
    """
    if not shutil.which("latexmk"):
        raise WorkbookError(f"no LaTeX here, so no report: install it with\n  {INSTALL}")
    folder = ROOT / "build" / run / "report"
    shutil.rmtree(folder, ignore_errors=True)
    latex.write(run, folder / "generated")
    write_photographs(run, folder / "photographs")
    for name in ("report.tex", "references.bib"):
        shutil.copy(ROOT / "report" / name, folder)
    done = subprocess.run(
        ["latexmk", "-pdf", "-interaction=nonstopmode", "-halt-on-error", "report.tex"],
        cwd=folder, capture_output=True, text=True, errors="replace", check=False,
    )  # fmt: skip
    if done.returncode:
        fault = re.search(r"^(! .*|.*:\d+: .*)$", done.stdout, re.MULTILINE)
        what = fault[0] if fault else f"see build/{run}/report/report.log"
        raise WorkbookError(f"the report of run {run} can't be built: {what}")
    target.parent.mkdir(parents=True, exist_ok=True)
    with atomic(target) as partial:
        shutil.copy(folder / "report.pdf", partial)


def main() -> int:
    """Read the command line; return the exit status."""
    run, target = sys.argv[1:]
    try:
        build(run, Path(target))
    except WorkbookError as error:
        print(message(error), file=sys.stderr)
        return 1
    print(f"report: {target}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
