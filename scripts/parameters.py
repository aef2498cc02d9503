"""The parameters of notebooks: which there are, and the values that a run gives them."""

import ast
import json
import shlex
from collections.abc import Iterable
from pathlib import Path

from helpers.run.errors import WorkbookError, unknown


def read(text: str) -> dict[str, str]:
    """Return the parameters in a line such as ``MODEL=resnet20 DATASET='folder:my photos'``.

    The line is split as a shell does it, so that a value in quotes may have spaces.

    Raises:
        WorkbookError: a part is not of the form ``NAME=value``, or a quote is not closed.
    """
    try:
        pairs = [part.partition("=") for part in shlex.split(text)]
    except ValueError as error:
        raise WorkbookError(f"parameters {text!r}: {error}") from error
    for name, equals, _ in pairs:
        if not (name.isidentifier() and equals):
            raise WorkbookError(
                f"parameters {text!r}: {name!r} is not of the form NAME=value; "
                "put a value with spaces in quotes"
            )
    return {name: value for name, _, value in pairs}


def declared(notebook: Path) -> dict[str, object]:
    """Return the parameters of a notebook with their defaults, ``PROFILE`` left out.

    They are the assignments in its cell that is tagged ``parameters``.
    """
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    tagged = (c for c in cells if "parameters" in c["metadata"].get("tags", ()))
    found = {}
    for cell in tagged:
        for line in ast.parse("".join(cell["source"])).body:
            if isinstance(line, ast.Assign) and isinstance(line.targets[0], ast.Name):
                found[line.targets[0].id] = ast.literal_eval(line.value)
    return {name: default for name, default in found.items() if name != "PROFILE"}


def check(parameters: Iterable[str], notebooks: Iterable[Path]) -> None:
    """Refuse a parameter that no notebook declares.

    Raises:
        WorkbookError: it names the nearest ones.
    """
    notebooks = list(notebooks)
    known = {name: None for notebook in notebooks for name in declared(notebook)}
    whose = notebooks[0].name if len(notebooks) == 1 else "the notebooks"
    for name in parameters:
        if name not in known:
            raise unknown(f"parameter of {whose}", name, known)


def taken(parameters: dict[str, str], notebook: Path) -> dict[str, object]:
    """Return those parameters that a notebook declares, each of the type of its default.

    Raises:
        WorkbookError: a text is no value of that type, such as ``"maybe"`` where it is yes or no.
    """
    return {
        name: _typed(name, parameters[name], type(default))
        for name, default in declared(notebook).items()
        if name in parameters
    }


def _typed(name: str, text: str, kind: type) -> object:
    try:
        return {"true": True, "false": False}[text.lower()] if kind is bool else kind(text)
    except (KeyError, ValueError) as error:
        choice = "True or False" if kind is bool else f"of type {kind.__name__}"
        raise WorkbookError(f"parameter {name} is {text!r}: it must be {choice}") from error
