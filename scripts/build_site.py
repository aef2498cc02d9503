"""Build the static site from the rendered notebooks; nothing is executed.

    python scripts/build_site.py build/site

It takes the notebooks as they are committed, the pages of docs/, and the figures of the laptop
run. The pages need no network, neither when they are made nor when they are read.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

import nbformat
from badges import REPOSITORY, TAG
from PIL import Image

from helpers.run.errors import WorkbookError, message
from helpers.run.files import ROOT

COVER = (720, 450)  # pixels; what of a figure is shown: 4/3 of that, if it is as large
GALLERY = ":::::{{grid}} 1 2 2 3\n:gutter: 3\n\n{}\n:::::"
LEAST_TEASER = 80  # characters
# Cells that serve and don't teach, by their tag; a click on these words opens them.
FOLDED = {
    "setup": "Show the setup",
    "parameters": "Show the parameters",
    "record": "Show what is recorded",
}


def build(target: Path) -> None:
    """Write the site to the folder ``target``, whole or not at all.

    Raises:
        WorkbookError: a link leads nowhere, or Sphinx is missing or found a fault, whose first
            line is given.
    """
    notebooks = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
    with tempfile.TemporaryDirectory() as folder:
        source, built = Path(folder) / "source", Path(folder) / "site"
        pages = {path: source / path.relative_to(ROOT) for path in notebooks}
        for path in (ROOT / "docs").glob("*.md"):
            pages[path] = source / ("index.md" if path.stem == "index" else f"docs/{path.name}")
        for path in (ROOT / "docs" / "_static").glob("*.svg"):  # pictures in the pages
            pages[path] = source / path.relative_to(ROOT)
        (source / "originals").mkdir(parents=True)
        for path, page in pages.items():
            page.parent.mkdir(parents=True, exist_ok=True)
            if path.suffix == ".ipynb":
                shutil.copy(path, source / "originals")
                nbformat.write(prepared(nbformat.read(path, 4), path, pages), page)
            elif path.suffix == ".md":
                page.write_text(relocated(path.read_text(), path, pages))
            else:
                shutil.copy(path, page)
        index = pages[ROOT / "docs" / "index.md"]
        gallery = "\n".join(card(path, source) for path in notebooks)
        others = [page for page in pages.values() if page.suffix == ".md" and page != index]
        index.write_text(
            index.read_text().replace("{{gallery}}", GALLERY.format(gallery))
            + contents("Notebooks", [pages[path] for path in notebooks], source)
            + contents("For teachers and authors", sorted(others, reverse=True), source)
        )
        sphinx(source, built)
        for leftover in (built / "_static").glob("*-macros.html"):  # templates of the theme
            leftover.unlink()
        shutil.rmtree(target, ignore_errors=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(built, target)


def sphinx(source: Path, target: Path) -> None:
    """Run Sphinx; a warning, such as a link that leads nowhere, is an error."""
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", "-b", "html", "-c", str(ROOT / "docs"), "-d",
         str(source / ".doctrees"), "-W", "--keep-going", "-q", "-j", "auto", str(source),
         str(target)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no reason given"]
        if "No module named" in lines[-1]:
            raise WorkbookError('the site needs more packages: pip install -e ".[site]"')
        faults = [line for line in lines if re.search("WARNING|ERROR", line)] or lines[-1:]
        raise WorkbookError(f"the site can't be built: {faults[0].replace(f'{source}/', '')}")


def prepared(
    book: nbformat.NotebookNode, path: Path, pages: dict[Path, Path]
) -> nbformat.NotebookNode:
    """Return a notebook as the site shows it: links for the badge, what only serves folded."""
    for cell in book.cells:
        if cell.cell_type == "markdown":
            cell.source = relocated(cell.source, path, pages)
        tags = cell.metadata.get("tags", [])
        for tag in FOLDED.keys() & set(tags):
            cell.metadata["tags"] = sorted({*tags, "hide-input"})
            cell.metadata["mystnb"] = {"code_prompt_show": FOLDED[tag]}
    book.metadata.language_info["pygments_lexer"] = "ipython3"  # the setup cell has magics
    # The badge is a picture from another site: it would make the page depend on the network.
    links = (
        r"[Open in Colab](\1){.launch} "
        f"[On GitHub]({address(path)}){{.launch}} "
        f"[Download the notebook](path:../originals/{path.name}){{.launch}}"
    )
    first = book.cells[0]
    first.source = re.sub(
        r"\[!\[[^]]*\]\([^)]*colab-badge\.svg\)\]\(([^)]+)\)", links, first.source
    )
    return book


def relocated(text: str, path: Path, pages: dict[Path, Path]) -> str:
    """Return Markdown with its relative links made right for its place in the site.

    Files of the repository that are no page of the site are linked where the code is hosted.
    """

    def link(match: re.Match) -> str:
        name, hash_, anchor = match[1].partition("#")
        there = (path.parent / name).resolve()
        if not (there.is_relative_to(ROOT) and there.exists()):
            raise WorkbookError(f"{path.name} links to {match[1]}, which is not there: mend it")
        if there in pages:
            found = os.path.relpath(pages[there], pages[path].parent)
        else:
            found = address(there)
        return f"]({found}{hash_}{anchor})"

    return re.sub(r"\]\((?!https?:|mailto:|#|data:)([^)\s]+)\)", link, text)


def address(path: Path) -> str:
    """Return where a file of the repository is hosted."""
    return f"{REPOSITORY}/blob/{TAG}/{path.relative_to(ROOT).as_posix()}"


def contents(caption: str, pages: list[Path], source: Path) -> str:
    """Return one part of the table of contents at the side."""
    names = "\n".join(page.relative_to(source).with_suffix("").as_posix() for page in pages)
    return f"\n```{{toctree}}\n:hidden:\n:caption: {caption}\n\n{names}\n```\n"


def card(path: Path, source: Path) -> str:
    """Return a notebook's card for the gallery, and put its picture into ``source``."""
    book = nbformat.read(path, 4)
    title, text = re.match(
        r"# (.*)\n(?:.*\n)*?\n(?=\w|\*\*\w)((?:.+\n)+)", book.cells[0].source
    ).groups()
    teaser = ""
    for sentence in re.split(r"(?<=[.?!])(?<!al\.)\s+", " ".join(text.split())):
        if len(teaser) < LEAST_TEASER:
            teaser = f"{teaser} {sentence}".strip()
    figure, alt = cover(path, book)
    lines = [f"::::{{grid-item-card}} {title}", f":link: /notebooks/{path.stem}", ":link-type: doc"]
    if figure:
        name = f"covers/{path.stem}.jpg"
        (source / name).parent.mkdir(exist_ok=True)
        thumbnail(Image.open(figure)).save(source / name, quality=85)
        lines += [f":img-top: /{name}", f":img-alt: {alt}"]
    return "\n".join([*lines, "", teaser, "::::"])


def cover(path: Path, book: nbformat.NotebookNode) -> tuple[Path | None, str]:
    """Return the figure that stands for a notebook, and what it shows."""
    covers = tomllib.loads((ROOT / "docs" / "covers.toml").read_text())
    saved = re.findall(r'figures\.save\(\w+, "([^"]+)"\)', "\n".join(c.source for c in book.cells))
    chosen = covers.get(path.stem[:2], {"figure": saved[0] if saved else "", "alt": path.stem})
    figure = ROOT / "figures" / "laptop" / f"{chosen['figure']}.png"
    return (figure if figure.is_file() else None), chosen["alt"]


def thumbnail(figure: Image.Image) -> Image.Image:
    """Return the upper left part of a figure, large enough to be recognised."""
    width, height = figure.size
    part = min(4 / 3, width / COVER[0], height / COVER[1])
    part = figure.convert("RGB").crop((0, 0, round(COVER[0] * part), round(COVER[1] * part)))
    return part.resize(COVER, Image.Resampling.LANCZOS)


def main() -> int:
    """Read the command line; return the exit status."""
    target = Path(sys.argv[1])
    try:
        build(target)
    except WorkbookError as error:
        print(message(error), file=sys.stderr)
        return 1
    print(f"site: {target}/index.html")
    return 0


if __name__ == "__main__":
    sys.exit(main())
