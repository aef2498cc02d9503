"""Draw the house: the seven rooms of ``helpers``, and which room imports from which.

    python scripts/draw_house.py [docs/_static/house.svg]

Everything is read from the code: a room's sentence is its docstring, its boxes are its files, and
a stream runs from each room down to the rooms it imports from. The drawing keeps what it shows as
text inside it, so that a test can tell when the code has moved on.
"""

import ast
import json
import sys
import xml.etree.ElementTree as ET
from collections import Counter
from functools import cache
from itertools import accumulate
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Circle, FancyBboxPatch, Polygon, Rectangle
from matplotlib.textpath import TextPath

from helpers.run.errors import WorkbookError, message
from helpers.run.files import ROOT, atomic

DRAWING = ROOT / "docs" / "_static" / "house.svg"
# Imports run one way, downwards in this list.
ROOMS = ("course", "dissect", "measure", "explain", "nets", "data", "run")
COLOURS = [mpl.colormaps["viridis"](0.11 * i) for i in range(len(ROOMS))]
INK = "#222222"
LEGEND = """\
A stream runs from each room down
to the rooms that it imports from.
The numbers count the imports."""

# Inches across, for a figure as wide as a page: where a room's text begins and ends, where the
# first stream runs, how far the next, and the widest; then inches down, and sizes in points.
WIDTH, MARGIN, TEXT, EDGE, STREAMS, STEP, WIDEST = 7.9, 0.08, 1.27, 5.06, 5.26, 0.465, 0.2
LINE, BOX, SPACE, PADDING, GAP = 0.17, 0.2, 0.06, 0.12, 0.09
NAME, SENTENCE, FILE, NUMBER = 13, 8.6, 7.8, 7.8


def read(package: Path = ROOT / "helpers") -> dict:
    """Return what the drawing shows.

    ``rooms`` gives each room's sentence and files, top room first; ``imports`` counts, for each
    "room > room below", the pairs of a file here and a module there that it imports.

    Raises:
        WorkbookError: a file lies in no room, or imports from a room above its own.
    """
    imports: Counter[str] = Counter()
    for module, other in edges(package):
        room, below = module.split(".")[1], other.split(".")[1]
        if ROOMS.index(below) < ROOMS.index(room):
            raise WorkbookError(f"{module} imports upwards, from {other}: turn that round")
        if below != room:
            imports[f"{room} > {below}"] += 1
    rooms = {}
    for room in ROOMS:
        docstring = ast.get_docstring(ast.parse((package / room / "__init__.py").read_text())) or ""
        inside = sorted((package / room).iterdir())
        rooms[room] = {
            "sentence": " ".join(docstring.partition("\n\n")[0].split()),
            "files": [path.stem for path in inside if path.suffix == ".py" and path.stem[0] != "_"]
            + [f"{path.name}/" for path in inside if (path / "__init__.py").exists()]
            + [path.name for path in inside if path.suffix == ".toml"],
        }
    return {"rooms": rooms, "imports": dict(sorted(imports.items()))}


def edges(package: Path = ROOT / "helpers") -> list[tuple[str, str]]:
    """Return who imports whom within the package, by full names, each pair once.

    Raises:
        WorkbookError: a module lies in no room.
    """
    names = {
        ".".join(path.relative_to(package.parent).with_suffix("").parts): path
        for path in sorted(package.rglob("*.py"))
    }
    modules = {name.removesuffix(".__init__"): path for name, path in names.items()}
    for module in modules:
        if module != package.name and module.split(".")[1] not in ROOMS:
            raise WorkbookError(f"{module} lies in no room: move it into one of {', '.join(ROOMS)}")
    found = set()
    for module, path in modules.items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                there = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                there = [f"{node.module}.{alias.name}" for alias in node.names]
                there = [name if name in modules else node.module for name in there]
            else:
                continue
            found |= {(module, name) for name in there if name in modules}
    return sorted(found)


def draw(house: dict) -> Figure:
    """Draw what :func:`read` has read: one room above the other, and the streams beside them."""
    rooms = [Room(name, **told) for name, told in house["rooms"].items()]
    roof = 0.72
    *tops, whole = accumulate((room.height + GAP for room in rooms), initial=roof)
    figure = Figure(figsize=(WIDTH, whole), facecolor="white")
    ax = figure.add_axes((0, 0, 1, 1), xlim=(0, WIDTH), ylim=(whole, 0))
    ax.axis("off")
    eaves = [(MARGIN, roof - GAP), (WIDTH / 2, MARGIN / 2), (WIDTH - MARGIN, roof - GAP)]
    ax.add_patch(Polygon(eaves, facecolor="#E8E8E8", edgecolor="none"))
    write(ax, WIDTH / 2, 0.45, "helpers", NAME, ha="center", weight="bold")
    for room, top, colour in zip(rooms, tops, COLOURS, strict=True):
        room.draw(ax, top, colour)
    counts = [[house["imports"].get(f"{a.name} > {b.name}", 0) for b in rooms] for a in rooms]
    middles = [top + room.height / 2 for room, top in zip(rooms, tops, strict=True)]
    # Above the streams of the lower rooms there is nothing else.
    write(ax, STREAMS + STEP, middles[0], LEGEND, FILE, linespacing=1.25)
    for i in range(len(rooms) - 1):
        stream(ax, i, rooms[i].name, middles, counts[i], WIDEST / max(map(sum, counts)))
    return figure


class Room:
    """A room's box: its name, its sentence, and its files as small boxes."""

    def __init__(self, name: str, sentence: str, files: list[str]) -> None:
        self.name = name
        self.sentence = rows(sentence.split(), SENTENCE, between=width(" ", SENTENCE) * 2)
        self.files = rows(files, FILE, between=2 * BOX / 3 + SPACE)
        self.height = 2 * PADDING + LINE * len(self.sentence) + (BOX + SPACE) * len(self.files)

    def draw(self, ax: Axes, top: float, colour: tuple) -> None:
        """Draw the room with its upper edge at ``top``."""
        box(ax, MARGIN, top, WIDTH - 2 * MARGIN, self.height, (*colour[:3], 0.13))
        box(ax, MARGIN, top, 0.1, self.height, colour)
        write(ax, MARGIN + 0.22, top + self.height / 2, self.name, NAME, weight="bold")
        y = top + PADDING + LINE / 2
        for words in self.sentence:
            write(ax, TEXT, y, " ".join(words), SENTENCE)
            y += LINE
        y += SPACE + BOX / 2 - LINE / 2
        for names in self.files:
            x = TEXT
            for name in names:
                wide = width(name, FILE) + 2 * BOX / 3
                box(ax, x, y - BOX / 2, wide, BOX, "white", edgecolor=colour)
                write(ax, x + wide / 2, y, name, FILE, ha="center")
                x += wide + SPACE
            y += BOX + SPACE


def stream(
    ax: Axes, i: int, name: str, middles: list[float], counts: list[int], scale: float
) -> None:
    """Draw what room ``i`` imports: as wide as the imports it still carries down."""
    x, colour, carried = STREAMS + STEP * i, COLOURS[i], sum(counts)
    ink = "white" if i < 5 else INK  # what stands out more
    above = middles[i]
    for middle, n in zip(middles, counts, strict=True):
        if n:
            wide = max(scale * carried, 0.012)
            ax.add_patch(Rectangle((x - wide / 2, above), wide, middle - above, color=colour, lw=0))
            ax.add_patch(Circle((x, middle), 0.125, facecolor=colour, edgecolor="white", zorder=3))
            write(ax, x, middle, str(n), NUMBER, ha="center", color=ink, weight="bold")
            above, carried = middle, carried - n
    wide = width(name, FILE, "bold") + 0.1
    box(ax, x - wide / 2, middles[i] - BOX / 2, wide, BOX, colour, edgecolor="white", zorder=3)
    write(ax, x, middles[i], name, FILE, ha="center", color=ink, weight="bold")


def rows(words: list[str], size: float, between: float) -> list[list[str]]:
    """Return words in as few rows as fit into a room, about equally long."""
    found, limit = filled(words, size, between, EDGE - TEXT), EDGE - TEXT
    while limit > 0 and len(narrower := filled(words, size, between, limit)) == len(found):
        found, limit = narrower, limit - 0.05
    return found


def filled(words: list[str], size: float, between: float, limit: float) -> list[list[str]]:
    """Return words in rows of at most ``limit`` inches, ``between`` inches from each other."""
    found, used = [], limit
    for word in words:
        wide = width(word, size) + between
        if used + wide > limit:
            found.append([])
            used = 0
        found[-1].append(word)
        used += wide
    return found


@cache
def width(text: str, size: float, weight: str = "normal") -> float:
    """Return a text's width in inches."""
    font = FontProperties(family="DejaVu Sans", weight=weight)
    return TextPath((0, 0), f"{text}.", size, prop=font).get_extents().width / 72


def box(ax: Axes, x: float, y: float, wide: float, high: float, colour: object, **kinds) -> None:
    """Draw a box with round corners, its upper left corner at (x, y)."""
    style = "round,pad=0,rounding_size=0.05"
    kinds = {"edgecolor": "none", "linewidth": 0.9} | kinds
    ax.add_patch(FancyBboxPatch((x, y), wide, high, style, facecolor=colour, **kinds))


def write(ax: Axes, x: float, y: float, text: str, size: float, **kinds) -> None:
    """Write a text, its middle at the height ``y``."""
    kinds = {"color": INK, "zorder": 4} | kinds
    ax.text(
        x,
        y,
        text,
        size=size,
        va="center" if "\n" in text else "center_baseline",
        family="DejaVu Sans",
        **kinds,
    )


def save(house: dict, path: Path) -> None:
    """Write the drawing as SVG: the same house, the same bytes."""
    told = {"Title": "The house of helpers", "Description": json.dumps(house), "Date": None,
            "Creator": None}  # fmt: skip
    with mpl.rc_context({"svg.hashsalt": "house", "svg.fonttype": "path"}), atomic(path) as partial:
        draw(house).savefig(partial, format="svg", metadata=told)


def shown(path: Path = DRAWING) -> dict:
    """Return what a drawing shows, as :func:`read` gives it."""
    (told,) = ET.parse(path).iter("{http://purl.org/dc/elements/1.1/}description")
    return json.loads(told.text)


def main() -> int:
    """Read the command line; return the exit status."""
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else DRAWING
    try:
        save(read(), path)
    except WorkbookError as error:
        print(message(error), file=sys.stderr)
        return 1
    print(f"drawing: {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
