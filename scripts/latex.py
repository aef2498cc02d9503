r"""The numbers and tables of a run for LaTeX: ``\result{name}`` and booktabs."""

import json
import re
from pathlib import Path

import pandas as pd

from helpers.run import files, results
from helpers.run.errors import WorkbookError


def write(run: str, target: Path) -> None:
    r"""Write the results of a run for the report.

    ``results.tex`` defines ``\result{name}`` for every number (with ``/low``, ``/high`` and
    ``/n`` where they exist), and one booktabs table file per recorded table is written beside
    it. An unknown name in the report is an error, not a gap.

    Raises:
        WorkbookError: the run has no results yet.
    """
    book = load(run)
    if not book["numbers"]:
        raise WorkbookError(f"run {run} has no results in figures/{run}/results: make run first")
    lines = ["% Generated from the run's results; do not edit."]
    for name, entry in sorted(book["numbers"].items()):
        for part in ("value", "low", "high"):
            if part in entry:
                path = name if part == "value" else f"{name}/{part}"
                lines.append(_definition(path, _number(entry[part], entry["spec"], entry["unit"])))
        if entry["n"] is not None:
            lines.append(_definition(f"{name}/n", f"{entry['n']:,}".replace(",", "\\,")))
    notes = {note: None for context in book["notebooks"].values() for note in context["notes"]}
    if notes:
        lines.append(_definition("notes", " ".join(f"\\item {escape(n)}." for n in notes)))
    lines += [_definition("profile", escape(run)), _definition("run", run)]
    target.mkdir(parents=True, exist_ok=True)
    with files.atomic(target / "results.tex") as partial:
        partial.write_text("\n".join(lines) + "\n", encoding="utf-8")
    for name, table in book["tables"].items():
        with files.atomic(target / f"{name.replace('/', '_')}.tex") as partial:
            partial.write_text(_booktabs(table["header"], table["rows"]), encoding="utf-8")


def load(run: str) -> dict:
    """Return all results of a run: ``notebooks``, ``numbers`` and ``tables``.

    Raises:
        WorkbookError: two notebooks have recorded a number or a table of the same name.
    """
    merged = {"notebooks": {}, "numbers": {}, "tables": {}}
    for path in sorted((files.ROOT / "figures" / run / "results").glob("*.json")):
        book = json.loads(path.read_text(encoding="utf-8"))
        for kind, entries in merged.items():
            if twice := sorted(entries.keys() & book[kind]):
                other = entries[twice[0]].get("notebook")
                raise WorkbookError(
                    f"{other} and {path.stem} both recorded {twice[0]!r}: choose another name, or "
                    f"delete figures/{run}/results/ of a notebook that is gone"
                )
            entries.update(book[kind])
    return merged


def escape(text: str) -> str:
    """Escape LaTeX's special characters, and set a minus sign as one."""
    words = {"\\": r"\textbackslash{}", "^": r"\textasciicircum{}", "~": r"\textasciitilde{}"}
    text = re.sub(r"[&%$#_{}\\^~]", lambda m: words.get(m[0], "\\" + m[0]), text)
    text = text.replace("×", r"\ensuremath{\times}").replace("–", "--")
    return re.sub(r"(?<![\w-])-(?=\d)", r"\\ensuremath{-}", text)


def _definition(name: str, text: str) -> str:
    return f"\\expandafter\\gdef\\csname result:{name}\\endcsname{{{text}}}"


def _number(value: float | str | None, spec: str, unit: str) -> str:
    text = escape(results.as_text(value, spec))
    return f"{text}\\,{escape(unit)}" if unit and value is not None else text


def _booktabs(header: list[str], rows: list[list[str]]) -> str:
    frame = pd.DataFrame(rows, columns=header).map(escape).rename(columns=escape)
    alignment = "@{}l" + "r" * (len(header) - 1) + "@{}"
    return frame.style.hide(axis="index").to_latex(hrules=True, column_format=alignment)
