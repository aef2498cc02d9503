"""A Sphinx extension that writes formulas as MathML.

Browsers draw MathML themselves, so a page needs no script and no network, and a screen reader
reads formulas aloud. The one thing a browser may lack is a font for large brackets and roots;
the site brings STIX Two Math with it.
"""

import re
from pathlib import Path

import ziamath
from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.util.logging import getLogger

LOG = getLogger(__name__)
FONT = Path(ziamath.__file__).parent / "fonts" / "STIXTwoMath-Regular.ttf"


def to_mathml(node: nodes.math | nodes.math_block, display: str) -> str:
    """Return a formula as MathML, ``"inline"`` or as a ``"block"`` of its own.

    A command that is not known is shown as it stands, and Sphinx warns of it.
    """
    mathml = convert(node.astext(), display=display)
    if left := re.search(r"\\[A-Za-z]+|&(?!#)", mathml):
        LOG.warning("no MathML for %s in the formula %s", left[0], node.astext(), location=node)
    # A hat is the accent and not the caret of the keyboard, which stands too high.
    return mathml.replace("&#x0005E;</mo></mover>", "&#x002C6;</mo></mover>")


def visit_inline(translator: nodes.NodeVisitor, node: nodes.math) -> None:
    """Write a formula within a line."""
    translator.body.append(to_mathml(node, "inline"))
    raise nodes.SkipNode


def visit_block(translator: nodes.NodeVisitor, node: nodes.math_block) -> None:
    """Write a formula in a block that scrolls by itself where the page is narrow."""
    # A focus, so that it can be scrolled with the keyboard too.
    block = to_mathml(node, "block")
    translator.body.append(f'<div class="formula" tabindex="0">{block}</div>')
    raise nodes.SkipNode


def bring_font(app: Sphinx, fault: Exception | None) -> None:
    """Copy the font into the finished site."""
    if fault is None:
        (Path(app.outdir) / "_static" / FONT.name).write_bytes(FONT.read_bytes())


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the renderer with Sphinx."""
    app.add_html_math_renderer("mathml", (visit_inline, None), (visit_block, None))
    app.connect("build-finished", bring_font)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
