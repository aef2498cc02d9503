"""Keep every number of a run, so that no number in the report is typed by hand.

A notebook says once what it looks at (:func:`start`) and then records its numbers. They go to its
own ``figures/<run>/results/<notebook>.json``, and from there to LaTeX (scripts/latex.py).
"""

import json
import math
import re
from datetime import date
from numbers import Real
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from helpers.run import files
from helpers.run.errors import WorkbookError
from helpers.run.profiles import Profile

CONFIDENCE = 0.95
NONE = "–"  # what is printed where there is no number, as for the mean of no cases

_run: dict = {}


class Estimate(NamedTuple):
    """A number, its 95 % confidence interval [low, high], and how many cases it rests on.

    Bounds are NaN where there are too few cases for an interval, the number is where there are
    none: such an estimate lies on neither side of anything.
    """

    value: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{self:.3f}"

    def __format__(self, spec: str) -> str:
        """Format all three numbers alike: ``f"{estimate:.1%}"`` gives 90.1% [89.5%, 90.7%]."""
        value, low, high = (NONE if math.isnan(x) else format(x, spec) for x in self[:3])
        return f"{value} [{low}, {high}]"

    def excludes(self, value: float) -> bool:
        """Say whether ``value`` lies outside the interval."""
        return value < self.low or value > self.high


def start(notebook: str, profile: Profile, *, dataset: str, model: str, notes: tuple = ()) -> None:
    """Begin a notebook's results, and forget those of its earlier run.

    Args:
        notebook: its file name without the ending, such as ``"01_train_evaluate"``.
        profile: the scale of the run; its ``run`` names the folder of the results.
        dataset, model: what the numbers were measured on, and with.
        notes: provenance notes of data and weights; empty ones are left out.
    """
    context = {
        "dataset": dataset,
        "model": model,
        "notes": [note for note in dict.fromkeys(notes) if note],
        "seed": profile.training.seed,
    }
    book = {"notebooks": {notebook: context}, "numbers": {}, "tables": {}}
    _run.update(notebook=notebook, run=profile.run, context=context, book=book)
    _write(book)
    today = date.today()
    print(f"Profile {profile.name}: data {dataset}, model {model}; {today.day} {today:%B %Y}.")
    for note in context["notes"]:
        print(f"Note: {note}.")


def folder() -> Path:
    """Return ``figures/<run>`` of the notebook that was started.

    Raises:
        WorkbookError: no notebook was started.
    """
    if not _run:
        raise WorkbookError("nothing to save to yet: call results.start(…) first")
    return files.ROOT / "figures" / _run["run"]


def record(
    name: str, value: float | str | Estimate, spec: str = "", *, unit: str = "",
    n: int | None = None, **context: str,
) -> str:  # fmt: skip
    """Record a number, and return it as text for the sentence that states it.

    A number that there is not (nan: the mean of no cases) is kept as null and printed as a dash.

    Args:
        name: a path of plain words, such as ``"test/accuracy"``; one name, one number.
        value: the number, an estimate with its interval, or a word such as a class name.
        spec: how to print it, as in f-strings: ``".1%"``, ``".2f"``.
        unit: printed behind it, such as ``"s"``.
        n: how many cases it rests on; an estimate knows.
        context: ``dataset`` or ``model``, where they are not those that the notebook began with.

    Raises:
        WorkbookError: the name has other characters than letters, digits, ``-``, ``_``, ``/``.
    """
    if not re.fullmatch(r"[\w/-]+", name):
        raise WorkbookError(f"result name {name!r}: use letters, digits, '-', '_' and '/' only")
    value = value.item() if hasattr(value, "item") else value  # a NumPy or torch scalar
    folder()
    entry = {"value": _json(value), "spec": spec, "unit": unit, "n": n}
    if isinstance(value, Estimate):
        entry |= {k: _json(getattr(value, k)) for k in ("value", "low", "high")}
        entry["n"] = int(value.n)
    entry |= {"notebook": _run["notebook"], **_run["context"], **context}
    _add("numbers", name, entry)
    text = as_text(value, spec)
    return f"{text} {unit}" if unit and text != NONE else text


def record_table(
    name: str, frame: pd.DataFrame | dict[str, list], specs: dict[str, str] | None = None
) -> None:
    """Record a table for the report.

    Args:
        name: the file of the report's table, such as ``"07_agreement"``.
        frame: the table; an index with a name, or of words, is its first column. A dict maps
            each heading to its cells.
        specs: how to print the columns, heading to format: ``{"IoU": ".2f"}``.
    """
    folder()
    shown = _formatted(_with_key(frame), specs or {})
    entry = {"header": list(shown.columns), "rows": shown.to_numpy().tolist()}
    _add("tables", name, entry | {"notebook": _run["notebook"]})


def table(
    name: str, frame: pd.DataFrame | dict[str, list], specs: dict[str, str] | None = None, *,
    prefix: str | None = None, key: str | None = None, **context: str,
) -> pd.DataFrame:  # fmt: skip
    """Record a table and every number in it, and return it as it is to be shown.

    The number in row ``Grad-CAM++`` and column ``mean IoU`` is recorded as
    ``<prefix>/Grad-CAMpp/mean-IoU``; words, and cells without a number, stay in the table only.

    Args:
        name, frame, specs: as for :func:`record_table`; ``context`` as for :func:`record`.
        prefix: what the numbers' names begin with; the table's name if it is not given.
        key: the column that names the rows; the first if it is not given.

    Raises:
        WorkbookError: the table has no column ``key``.
    """
    frame, specs = _with_key(frame), specs or {}
    if (key := key or frame.columns[0]) not in frame.columns:
        raise WorkbookError(f"table {name} has no column {key!r}: {', '.join(frame.columns)}")
    record_table(name, frame, specs)
    for row, (_, cells) in zip(frame[key], frame.iterrows(), strict=True):
        for column, cell in cells.items():
            if column != key and isinstance(cell, Real | Estimate) and not isinstance(cell, bool):
                path = f"{prefix or name}/{_slug(row)}/{_slug(column)}"
                record(path, cell, specs.get(column, ""), **context)
    shown = _formatted(frame, specs).set_index(key)
    return shown.rename_axis(index=None, columns=key)


def as_text(value: float | str | Estimate | None, spec: str = "") -> str:
    """Return a value as it is printed: formatted, or a dash where there is no number."""
    first = value.value if isinstance(value, Estimate) else value
    return NONE if _json(first) is None else format(value, spec)


def _add(kind: str, name: str, entry: dict) -> None:
    """Write the notebook's results with one entry more; they change only if that works."""
    book = {**_run["book"], kind: {**_run["book"][kind], name: entry}}
    _write(book)
    _run["book"] = book


def _write(book: dict) -> None:
    with files.atomic(folder() / "results" / f"{_run['notebook']}.json") as partial:
        text = json.dumps(book, indent=1, sort_keys=True, allow_nan=False)
        partial.write_text(text + "\n", encoding="utf-8")


def _json(value: object) -> object:
    """Return a value for JSON: a plain number or word, and null for what is no number."""
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _with_key(frame: pd.DataFrame | dict[str, list]) -> pd.DataFrame:
    """Return a table whose rows are named in its first column, each cell as it was given."""
    if isinstance(frame, dict):
        return pd.DataFrame({name: pd.Series(list(c), dtype=object) for name, c in frame.items()})
    named = frame.index.name is not None or not isinstance(frame.index, pd.RangeIndex)
    return (frame.reset_index(names=frame.index.name or "") if named else frame).astype(object)


def _formatted(frame: pd.DataFrame, specs: dict[str, str]) -> pd.DataFrame:
    return pd.DataFrame(
        {name: [as_text(cell, specs.get(name, "")) for cell in frame[name]] for name in frame}
    )


def _slug(text: object) -> str:
    """Return a cell as a part of a result's name: ``Grad-CAM++`` is ``Grad-CAMpp``."""
    return re.sub(r"[^\w/-]+", "-", str(text).replace("+", "p")).strip("-")
