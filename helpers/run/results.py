"""Keep every number of a run, so that no number in the report is typed by hand.

A notebook says once what it looks at (:func:`start`) and then records its numbers. They go to
``figures/<profile>/results.json``, and from there to LaTeX.
"""

from __future__ import annotations

import json
import re
from datetime import date
from pathlib import Path

from filelock import FileLock

from helpers.measure.intervals import Estimate
from helpers.run import files
from helpers.run.errors import WorkbookError
from helpers.run.profiles import Profile

_run: dict = {}


def start(notebook: str, profile: Profile, *, dataset: str, model: str, notes: tuple = ()) -> None:
    """Begin a notebook's results, and forget those of its earlier run.

    Args:
        notebook: its file name without the ending, such as ``"01_train_evaluate"``.
        profile: the scale of the run; names the folder of the results.
        dataset: what the numbers were measured on.
        model: what they were measured with.
        notes: provenance notes of data and weights; empty ones are left out.
    """
    _run.clear()
    _run.update(
        notebook=notebook,
        profile=profile.name,
        context={
            "dataset": dataset,
            "model": model,
            "notes": [note for note in dict.fromkeys(notes) if note],
            "seed": profile.training.seed,
        },
    )

    def begin(book: dict) -> None:
        for kind in ("numbers", "tables"):
            book[kind] = {k: v for k, v in book[kind].items() if v["notebook"] != notebook}
        book["notebooks"][notebook] = _run["context"]

    _update(begin)
    print(f"Profile {profile.name}: data {dataset}, model {model}; {date.today():%-d %B %Y}.")
    for note in _run["context"]["notes"]:
        print(f"Note: {note}.")


def folder() -> Path:
    """Return ``figures/<profile>`` of the notebook that was started.

    Raises:
        WorkbookError: no notebook was started.
    """
    if not _run:
        raise WorkbookError("nothing to save to yet: call results.start(…) first")
    return files.ROOT / "figures" / _run["profile"]


def record(
    name: str, value: float | str | Estimate, spec: str = "", *, unit: str = "",
    n: int | None = None, **context: str,
) -> str:  # fmt: skip
    """Record a number, and return it as text for the sentence that states it.

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
    if not isinstance(value, Estimate) and hasattr(value, "item"):
        value = value.item()  # a NumPy or torch scalar
    entry = {"value": value, "spec": spec, "unit": unit, "n": n}
    if isinstance(value, Estimate):
        # NumPy's numbers, too, become numbers of JSON.
        entry |= {k: float(getattr(value, k)) for k in ("value", "low", "high")} | {"n": value.n}
    folder()
    entry |= {"notebook": _run["notebook"], **_run["context"], **context}
    _update(lambda book: book["numbers"].update({name: entry}))
    return format(value, spec) + (f" {unit}" if unit else "")


def record_table(name: str, columns: dict[str, list], specs: dict[str, str] | None = None) -> None:
    """Record a table; ``columns`` maps each heading to its cells, ``specs`` to their format."""
    specs = specs or {}
    cells = [
        [format(cell, specs.get(heading, "")) for cell in column]
        for heading, column in columns.items()
    ]
    folder()
    entry = {"header": list(columns), "rows": [list(row) for row in zip(*cells, strict=True)]}
    entry["notebook"] = _run["notebook"]
    _update(lambda book: book["tables"].update({name: entry}))


def load(profile: str) -> dict:
    """Return all results of a profile: ``notebooks``, ``numbers`` and ``tables``."""
    path = files.ROOT / "figures" / profile / "results.json"
    if not path.exists():
        return {"notebooks": {}, "numbers": {}, "tables": {}}
    return json.loads(path.read_text())


def _update(change) -> None:
    """Change results.json under a lock: notebooks may run side by side."""
    path = folder() / "results.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.parent / ".lock"):
        book = load(_run["profile"])
        change(book)
        with files.atomic(path) as partial:
            partial.write_text(json.dumps(book, indent=1, sort_keys=True, allow_nan=False) + "\n")


# ---- LaTeX -------------------------------------------------------------------------------------


def write_latex(profile: str, target: Path) -> None:
    r"""Write the results of a profile for the report.

    ``results.tex`` defines ``\result{name}`` for every number (with ``/low``, ``/high`` and
    ``/n`` where they exist), and one booktabs table file per recorded table is written beside
    it. An unknown name in the report is an error, not a gap.

    Raises:
        WorkbookError: the profile has no results yet.
    """
    book = load(profile)
    if not book["numbers"]:
        raise WorkbookError(f"profile {profile} has no results: make run PROFILE={profile} first")
    lines = ["% Generated from results.json; do not edit."]
    for name, entry in sorted(book["numbers"].items()):
        unit = f"\\,{_escape(entry['unit'])}" if entry["unit"] else ""
        lines.append(_definition(name, _escape(format(entry["value"], entry["spec"])) + unit))
        for bound in ("low", "high"):
            if bound in entry:
                text = _escape(format(entry[bound], entry["spec"])) + unit
                lines.append(_definition(f"{name}/{bound}", text))
        if entry["n"] is not None:
            lines.append(_definition(f"{name}/n", f"{entry['n']:,}".replace(",", "\\,")))
    notes = {note: None for context in book["notebooks"].values() for note in context["notes"]}
    if notes:
        lines.append(_definition("notes", " ".join(f"\\item {_escape(n)}." for n in notes)))
    lines.append(_definition("profile", profile))
    target.mkdir(parents=True, exist_ok=True)
    with files.atomic(target / "results.tex") as partial:
        partial.write_text("\n".join(lines) + "\n")
    for name, table in book["tables"].items():
        with files.atomic(target / f"{name.replace('/', '_')}.tex") as partial:
            partial.write_text(_booktabs(table["header"], table["rows"]))


def _definition(name: str, text: str) -> str:
    return f"\\expandafter\\gdef\\csname result:{name}\\endcsname{{{text}}}"


def _booktabs(header: list[str], rows: list[list[str]]) -> str:
    def line(cells: list[str]) -> str:
        return " & ".join(_escape(cell) for cell in cells) + r" \\"

    alignment = "l" + "r" * (len(header) - 1)
    return "\n".join(
        [f"\\begin{{tabular}}{{@{{}}{alignment}@{{}}}}", r"\toprule", line(header), r"\midrule",
         *map(line, rows), r"\bottomrule", r"\end{tabular}", ""]
    )  # fmt: skip


def _escape(text: str) -> str:
    """Escape LaTeX's special characters, and set a minus sign as one."""
    words = {"\\": r"\textbackslash{}", "^": r"\textasciicircum{}", "~": r"\textasciitilde{}"}
    text = re.sub(r"[&%$#_{}\\^~]", lambda m: words.get(m[0], "\\" + m[0]), text)
    text = text.replace("×", r"\ensuremath{\times}")
    return re.sub(r"(?<!\w)-(?=\d)", r"\\ensuremath{-}", text)
