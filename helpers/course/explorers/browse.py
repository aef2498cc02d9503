"""A table of labelled units to look things up in, where widgets can be shown; static elsewhere."""

from __future__ import annotations

from collections.abc import Mapping

import ipywidgets
from IPython.display import display

from helpers.dissect.units import UnitLabels

_ROWS = 12


def lines(labels: UnitLabels, layer: str = "", unit: int | None = None, word: str = "",
          rows: int = _ROWS) -> list[str]:  # fmt: skip
    """Return the units that match, best score first, as lines of text.

    Args:
        labels: the table.
        layer: only of this layer; all if empty.
        unit: only this number.
        word: only labels that contain it, capitals aside.
        rows: at most so many lines; a last one says how many are left out.
    """
    found = labels.named.where(
        lambda u: (
            layer in ("", u.layer)
            and unit in (None, u.unit)
            and word.casefold() in u.label.casefold()
        )
    )
    ranked = sorted(found.rows, key=lambda u: -u.score)
    text = [f"{u.layer:10} {u.unit:5}  {u.label:28} {u.category:10} {u.score:8.3f}"
            for u in ranked[:rows]]  # fmt: skip
    if len(ranked) > rows:
        text.append(f"… and {len(ranked) - rows} more")
    return [f"{'layer':10} {'unit':>5}  {'label':28} {'category':10} {'score':>8}", *text]


def browse(tables: Mapping[tuple[str, str], UnitLabels]) -> None:
    """Print the best units of the first table, and show the controls to search all tables.

    The printed part stays where widgets can't be shown, as in a rendered notebook.
    """
    named = {labels.name: labels for labels in tables.values()}
    first = next(iter(named.values()))
    print(first.name)
    print("\n".join(lines(first)))

    def show(table: str, layer: str, unit: str, word: str) -> None:
        number = int(unit) if unit.strip().isdigit() else None
        print("\n".join(lines(named[table], layer, number, word, 30)))

    every_layer = dict.fromkeys(layer for labels in named.values() for layer in labels.layers)
    controls = {
        "table": ipywidgets.Dropdown(options=list(named), description="table"),
        "layer": ipywidgets.Dropdown(options=["", *every_layer], description="layer"),
        "unit": ipywidgets.Text(description="unit", continuous_update=False),
        "word": ipywidgets.Text(description="word", continuous_update=False),
    }
    output = ipywidgets.interactive_output(show, controls)
    display(ipywidgets.VBox([*controls.values(), output]))
