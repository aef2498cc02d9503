"""Labelled units: one table for every way of naming them, and what can be asked of two of them.

A table is a pandas DataFrame with a row per unit:

- ``layer`` and ``unit``, its number, counted from 0;
- ``label``, and its ``category``; missing where a unit is silent and has none;
- ``score``, how well the label describes the unit; its scale depends on the method.

``table.attrs`` holds its ``name``, what was labelled and how, and a ``note`` on provenance where
the labels were computed by others. So ``table[table.layer == "layer4"]`` are the units of a layer,
``table.label.value_counts()`` counts those that have a label, and
``(table.score >= cut).mean()`` is the share of all units that survive a cut-off.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from pandas import DataFrame
from torch import Tensor

from helpers.dissect import concepts
from helpers.measure import intervals
from helpers.measure.intervals import Estimate
from helpers.run.errors import WorkbookError

COLUMNS = ["layer", "unit", "label", "score", "category"]


def from_scores(
    name: str, scores: Mapping[str, Tensor], words: Sequence[str],
    category: Callable[[str], str] = concepts.category,
) -> DataFrame:  # fmt: skip
    """Give each unit the word with its largest score.

    Args:
        name: what was labelled and how, for titles.
        scores: per layer float [units, words]; a row of NaN gives no label.
        words: one for each column.
        category: maps a word to its category.

    Raises:
        WorkbookError: words and columns differ in number.
    """
    rows: list[tuple] = []
    for layer, table in scores.items():
        if table.shape[1] != len(words):
            raise WorkbookError(f"{layer} has scores for {table.shape[1]} words, not {len(words)}")
        silent = table.isnan().all(dim=1).tolist()
        best, which = table.nan_to_num(nan=-math.inf).max(dim=1)
        for unit, (score, word) in enumerate(zip(best.tolist(), which.tolist(), strict=True)):
            named = (words[word], score, category(words[word]))
            rows.append((layer, unit, *((None, math.nan, None) if silent[unit] else named)))
    return _named(DataFrame(rows, columns=COLUMNS), name)


def read_csv(path: Path, name: str, note: str = "") -> DataFrame:
    """Read a table ``layer,unit,description,similarity``, as CLIP-Dissect writes it.

    Raises:
        WorkbookError: the file can't be read, or has other columns.
    """
    table = _read(path, ["layer", "unit", "description", "similarity"])
    table = table.rename(columns={"description": "label", "similarity": "score"})
    table["category"] = table.label.map(concepts.category, na_action="ignore")
    return _named(table, name, note)


def read_netdissect(path: Path, layer: str, name: str, note: str = "") -> DataFrame:
    """Read a table ``unit,category,label,score`` of NetDissect, whose units are counted from 1.

    Categories are NetDissect's own, with "color" spelt as here and "material" as texture.

    Raises:
        WorkbookError: the file can't be read, or has other columns.
    """
    table = _read(path, ["unit", "category", "label", "score"])
    coded = table.category.isin(["scene", "color"])  # their labels end in -s and -c
    label = table.label.mask(coded, table.label.str[:-2]).str.replace("_", " ")
    category = table.category.replace({"color": "colour", "material": "texture"})
    table = table.assign(layer=layer, unit=table.unit - 1, label=label, category=category)
    return _named(table.sort_values("unit", ignore_index=True), name, note)


def share(labels: DataFrame, category: str) -> Estimate:
    """Return the share of the labelled units whose label is of a category.

    Raises:
        WorkbookError: no unit is labelled, as in a layer that the table does not have.
    """
    named = labels.category.dropna()
    if named.empty:
        raise WorkbookError(f"{name_of(labels)} labels no unit: check the name of the layer")
    return intervals.proportion(int((named == category).sum()), len(named))


def distinct(labels: DataFrame, category: str | None = None) -> set[str]:
    """Return the different labels, of one category if given, without capitals and plural."""
    rows = labels if category is None else labels[labels.category == category]
    return set(rows.label.dropna().map(concepts.singular))


def name_of(labels: DataFrame) -> str:
    """Return what was labelled and how, for titles; "this table" if pandas has lost it."""
    return labels.attrs.get("name") or "this table"


# ---- two tables --------------------------------------------------------------------------------


class Agreement(NamedTuple):
    """How often two tables say the same of the same units."""

    label: Estimate  # the same word, capitals and plural aside
    label_by_chance: float  # if one table's labels were dealt out to its units anew
    category: Estimate
    category_by_chance: float


def agreement(a: DataFrame, b: DataFrame) -> Agreement:
    """Compare the labels that two tables give the units which both label.

    Raises:
        WorkbookError: they have no unit in common.
    """
    pairs = a.dropna(subset="label").merge(b.dropna(subset="label"), on=["layer", "unit"])
    n = len(pairs)
    if not n:
        raise WorkbookError(
            f"{name_of(a)} and {name_of(b)} label no unit in common: compare tables of the same "
            "layers"
        )
    found: list = []
    for column, same in (("label", concepts.singular), ("category", str)):
        ours, theirs = (pairs[f"{column}_{which}"].map(same) for which in "xy")
        # Where one of the two counts is missing, their product is zero.
        chance = (ours.value_counts() * theirs.value_counts()).sum() / n**2
        found += [intervals.proportion(int((ours == theirs).sum()), n), float(chance)]
    return Agreement(*found)


class Difference(NamedTuple):
    """The different concepts of two networks."""

    only_first: set[str]
    both: set[str]
    only_second: set[str]


def compare(a: DataFrame, b: DataFrame, category: str | None = None) -> Difference:
    """Return which concepts one network learned and the other did not, of one category or all.

    The networks may be of different width: concepts are compared, not units.
    """
    first, second = distinct(a, category), distinct(b, category)
    return Difference(first - second, first & second, second - first)


def _named(table: DataFrame, name: str, note: str = "") -> DataFrame:
    table = table[COLUMNS]
    table.attrs = {"name": name, "note": note}
    return table


def _read(path: Path, columns: Iterable[str]) -> DataFrame:
    """Read text as text ("null" is a word), and numbers to the last digit."""
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8")
        table = table.mask(table == "")
        numbers = {"unit": int, "score": float, "similarity": float}
        table = table.astype({key: kind for key, kind in numbers.items() if key in table})
    except (OSError, ValueError) as error:  # pandas' own errors are ValueErrors, too
        raise WorkbookError(
            f"{path.name} is no readable table: give a CSV file with columns {', '.join(columns)}"
        ) from error
    if lacking := [c for c in columns if c not in table or table.empty]:
        raise WorkbookError(f"{path.name} has no column {lacking[0]}, or no rows: give the table "
                            f"with {', '.join(columns)}")  # fmt: skip
    return table
