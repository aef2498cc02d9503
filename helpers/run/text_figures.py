"""Documents with highlighted words, as figures and as HTML.

Red speaks for the class, blue against it; words against it are also underlined, so that the sign
does not hang on the colour alone.
"""

import html as markup
import re
import textwrap
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from helpers.run import figures

Weights = Mapping[str, float]  # per word, in lower case
_ADVANCE = 0.602  # width of a letter of DejaVu Sans Mono, in font sizes
_LINE = 1.35  # height of a line, in font sizes
# Without its darkest ends, so that black letters can be read on every colour.
_CMAP = ListedColormap(plt.get_cmap(figures.SIGNED)(np.linspace(0.18, 0.82, 255)))


def strongest(weights: Weights, n: int) -> dict[str, float]:
    """Return the n words of the largest weights, whatever their sign."""
    ranked = sorted(weights.items(), key=lambda item: -abs(item[1]))
    return dict(ranked[:n])


def page(
    documents: Sequence[str], weights: Sequence[Weights], titles: Sequence[str], *,
    colours: Sequence[str] | None = None, n: int = 10, columns: int = 2, letters: int = 80,
    lines: int = 8,
) -> Figure:  # fmt: skip
    """Draw documents in panels, the n strongest words of each highlighted.

    Of a long document the consecutive lines are shown on which most of the weight lies. Each
    panel has a scale of its own, from minus to plus its largest weight.

    Args:
        documents, weights, titles, colours: of N panels and their titles, which are black if None.
        n: how many words to highlight.
        columns: panels side by side.
        letters, lines: the longest line, and the most lines of a panel.
    """
    rows = -(-len(documents) // columns)
    # The panels hold monospaced letters in cells of known size, so all is placed by hand.
    wide, panel = 10, 10 / columns  # inches
    size = 72 * (panel - 0.4) / letters / _ADVANCE
    marked = [strongest(w, n) for w in weights]
    excerpts = [_excerpt(d, w, letters, lines) for d, w in zip(documents, marked, strict=True)]
    tallest = [max(map(len, excerpts[r * columns : (r + 1) * columns])) for r in range(rows)]
    line = size * _LINE / 72
    top = high = sum(tallest) * line + 0.32 * rows + 0.45
    figure = plt.figure(figsize=(wide, high))
    figure.set_layout_engine("none")
    for k, excerpt in enumerate(excerpts):
        row, column = divmod(k, columns)
        if column == 0:
            top -= tallest[row] * line + 0.32
        box = (0.1 + column * panel, top + 0.1, panel - 0.4, tallest[row] * line)
        ax = figure.add_axes(np.divide(box, (wide, high, wide, high)))
        ax.set(xlim=(0, letters), ylim=(tallest[row], 0))
        ax.axis("off")
        ax.set_title(titles[k], loc="left", fontsize=8, pad=2, weight="bold",
                     color=colours[k] if colours else "black")  # fmt: skip
        _draw(ax, excerpt, marked[k], size)
    bar = figure.add_axes((0.3, 0.25 / high, 0.4, 0.08 / high))
    scale = ScalarMappable(plt.Normalize(-1, 1), _CMAP)
    figure.colorbar(scale, cax=bar, orientation="horizontal")
    bar.set_xticks([-1, 0, 1], ["against the class", "0", "for the class"], fontsize=8)
    return figure


def html(document: str, weights: Weights, title: str = "", n: int = 10) -> str:
    """Return the whole document as HTML, folded under its title, the n strongest words marked."""
    chosen, pieces = strongest(weights, n), []
    largest = max(map(abs, chosen.values()), default=0) or 1
    for token in re.split(r"(\w+)", document.strip()):
        weight = chosen.get(token.lower(), 0)
        text = markup.escape(token)
        if weight:
            line = "; text-decoration: underline dashed" if weight < 0 else ""
            style = f"background: {_colour(weight / largest)}; color: black{line}"
            text = f'<span style="{style}" title="{weight:+.3f}">{text}</span>'
        pieces.append(text)
    return (
        f"<details><summary><b>{markup.escape(title)}</b></summary>"
        f'<pre style="white-space: pre-wrap">{"".join(pieces)}</pre></details>'
    )


def _colour(strength: float) -> str:
    """Return the colour of a weight in -1..1."""
    return to_hex(_CMAP((strength + 1) / 2))


def _excerpt(document: str, weights: Weights, letters: int, lines: int) -> list[str]:
    """Wrap a document and return the lines on which most of the weight lies, none empty."""
    wrapped = [
        part
        for line in document.expandtabs(4).split("\n")
        if re.search(r"[^\W_]", line)
        for part in textwrap.wrap(line, letters)
    ]
    heat = [sum(abs(weights.get(w.lower(), 0)) for w in re.findall(r"\w+", x)) for x in wrapped]
    starts = range(max(1, len(wrapped) - lines + 1))
    first = max(starts, key=lambda s: sum(heat[s : s + lines]))
    return wrapped[first : first + lines]


def _draw(ax: Axes, excerpt: list[str], weights: Weights, size: float) -> None:
    """Draw lines of text in a panel of one unit per letter and line."""
    largest = max(map(abs, weights.values()), default=0) or 1
    for y, line in enumerate(excerpt):
        # Word by word: the width of a letter is rounded to pixels, and would add up.
        for word in re.finditer(r"\w+|[^\w\s]+", line):
            x, width, weight = word.start(), len(word[0]), weights.get(word[0].lower(), 0)
            ax.text(x, y + 0.5, word[0], family="monospace", fontsize=size,
                    va="center_baseline", parse_math=False)  # fmt: skip
            if weight:
                ax.add_patch(Rectangle((x, y + 0.02), width, 0.96, zorder=0,
                                       color=_colour(weight / largest), linewidth=0))  # fmt: skip
            if weight < 0:
                ax.plot([x, x + width], [y + 0.95] * 2, color="black", linewidth=0.7)
