"""Labelled units: one table for every way of naming them, and what can be asked of it."""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import compress
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from helpers.dissect import concepts
from helpers.measure import intervals
from helpers.measure.intervals import Estimate
from helpers.run import files
from helpers.run.errors import WorkbookError, unknown


class Unit(NamedTuple):
    """A unit and its label."""

    layer: str
    unit: int
    label: str  # "" where it has none: a silent unit
    score: float  # how well the label describes the unit; its scale depends on the method
    category: str  # of the label; "" without one


@dataclass(frozen=True)
class UnitLabels:
    """The labels of the units of one network, found in one way.

    Attributes:
        name: what was labelled and how, for titles.
        rows: the units, layer by layer.
        note: provenance where the labels were computed by others.
    """

    name: str
    rows: tuple[Unit, ...]
    note: str = ""

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def layers(self) -> tuple[str, ...]:
        """The names of the layers, in their order."""
        return tuple(dict.fromkeys(row.layer for row in self.rows))

    def where(self, choose: Callable[[Unit], bool]) -> UnitLabels:
        """Return the units for which ``choose(unit)`` is true."""
        return replace(self, rows=tuple(compress(self.rows, map(choose, self.rows))))

    def of(self, layer: str) -> UnitLabels:
        """Return the units of a layer.

        Raises:
            WorkbookError: the table has no such layer.
        """
        if layer not in self.layers:
            raise unknown(f"layer of {self.name}", layer, self.layers)
        return self.where(lambda unit: unit.layer == layer)

    @property
    def named(self) -> UnitLabels:
        """The units that have a label."""
        return self.where(lambda unit: unit.label != "")

    def counts(self, by: str = "label") -> Counter[str]:
        """Return how many units have each ``"label"`` or each ``"category"``, most first."""
        return Counter(dict(Counter(getattr(row, by) for row in self.named.rows).most_common()))

    def concepts(self, category: str | None = None) -> set[str]:
        """Return the different labels, of one category if given, without capitals and plural."""
        rows = self.named.rows
        return {stem(row.label) for row in rows if category in (None, row.category)}

    def share(self, category: str) -> Estimate:
        """Return the share of the labelled units whose label is of a category."""
        hits = sum(row.category == category for row in self.named.rows)
        return intervals.proportion(hits, len(self.named))

    def surviving(self, cutoff: float) -> float:
        """Return the share of all units whose label scores at least the cut-off."""
        return sum(row.score >= cutoff for row in self.rows) / len(self)


def from_scores(
    name: str, scores: Mapping[str, Tensor], words: Sequence[str],
    category: Callable[[str], str] = concepts.category, note: str = "",
) -> UnitLabels:  # fmt: skip
    """Give each unit the word with its largest score.

    Args:
        name: see :class:`UnitLabels`.
        scores: per layer float [units, words]; a row of NaN gives no label.
        words: one for each column.
        category: maps a word to its category.
        note: provenance, if there is any to tell.

    Raises:
        WorkbookError: words and columns differ in number.
    """
    rows = []
    for layer, table in scores.items():
        if table.shape[1] != len(words):
            raise WorkbookError(f"{layer} has scores for {table.shape[1]} words, not {len(words)}")
        best, which = table.nan_to_num(nan=-math.inf).max(dim=1)
        for unit, (score, word) in enumerate(zip(best.tolist(), which.tolist(), strict=True)):
            if torch.isnan(table[unit]).all():
                rows.append(Unit(layer, unit, "", math.nan, ""))
            else:
                rows.append(Unit(layer, unit, words[word], score, category(words[word])))
    return UnitLabels(name, tuple(rows), note)


def read_csv(path: Path, name: str, note: str = "") -> UnitLabels:
    """Read a table ``layer,unit,description,similarity``, as CLIP-Dissect writes it.

    Raises:
        WorkbookError: the file can't be read, or has other columns.
    """
    rows = [
        Unit(row["layer"], int(row["unit"]), row["description"], float(row["similarity"]),
             concepts.category(row["description"]))
        for row in _table(path, ("layer", "unit", "description", "similarity"))
    ]  # fmt: skip
    return UnitLabels(name, tuple(rows), note)


def read_netdissect(path: Path, layer: str, name: str, note: str = "") -> UnitLabels:
    """Read a table ``unit,category,label,score`` of NetDissect, whose units are counted from 1.

    Categories are NetDissect's own, with "color" spelt as here and "material" as texture.
    """
    names = {"color": "colour", "material": "texture"}
    rows = []
    for row in _table(path, ("unit", "category", "label", "score")):
        label = row["label"]
        if row["category"] in ("scene", "color"):  # they end in -s and -c
            label = label[:-2]
        category = names.get(row["category"], row["category"])
        unit, score = int(row["unit"]) - 1, float(row["score"])
        rows.append(Unit(layer, unit, label.replace("_", " "), score, category))
    rows.sort(key=lambda row: row.unit)
    return UnitLabels(name, tuple(rows), note)


def write_csv(labels: UnitLabels, path: Path) -> None:
    """Write a table that :func:`read_csv` reads."""
    with files.atomic(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["layer", "unit", "description", "similarity"])
        writer.writerows(row[:4] for row in labels.rows)


def stem(word: str) -> str:
    """Return a word without capitals and plural, so that "Galleries" equals "gallery"."""
    word = word.casefold().strip()
    if len(word) < 4 or not word.endswith("s") or word.endswith(("ss", "us", "is", "as")):
        return word
    if word.endswith("ies"):
        return word[:-3] + "y"
    return word[:-2] if word.endswith(("xes", "ches", "shes", "sses")) else word[:-1]


# ---- two tables --------------------------------------------------------------------------------


class Agreement(NamedTuple):
    """How often two tables say the same of the same units."""

    label: Estimate  # the same word, capitals and plural aside
    label_by_chance: float  # if one table's labels were dealt out to its units anew
    category: Estimate
    category_by_chance: float


def agreement(a: UnitLabels, b: UnitLabels) -> Agreement:
    """Compare the labels that two tables give the units which both label.

    Raises:
        WorkbookError: they have no unit in common.
    """
    other = {(row.layer, row.unit): row for row in b.named.rows}
    pairs = [(r, other[r.layer, r.unit]) for r in a.named.rows if (r.layer, r.unit) in other]
    if not pairs:
        raise WorkbookError(
            f"{a.name} and {b.name} label no unit in common: compare tables of the same layers"
        )
    found: list = []
    for key in (lambda row: stem(row.label), lambda row: row.category):
        ours, theirs = (Counter(key(pair[i]) for pair in pairs) for i in (0, 1))
        hits = sum(key(r) == key(s) for r, s in pairs)
        chance = sum(ours[k] * theirs[k] for k in ours) / len(pairs) ** 2
        found += [intervals.proportion(hits, len(pairs)), chance]
    return Agreement(*found)


class Difference(NamedTuple):
    """The different concepts of two networks."""

    only_first: set[str]
    both: set[str]
    only_second: set[str]


def compare(a: UnitLabels, b: UnitLabels, category: str | None = None) -> Difference:
    """Return which concepts one network learned and the other did not, of one category or all.

    The networks may be of different width: concepts are compared, not units.
    """
    first, second = a.concepts(category), b.concepts(category)
    return Difference(first - second, first & second, second - first)


def _table(path: Path, columns: Iterable[str]) -> list[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise WorkbookError(f"{path.name} is no readable table: give a CSV file") from error
    if lacking := [c for c in columns if not rows or c not in rows[0]]:
        raise WorkbookError(f"{path.name} has no column {lacking[0]}, or no rows: give the table "
                            f"with {', '.join(columns)}")  # fmt: skip
    return rows
