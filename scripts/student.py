"""Make the student edition: the notebooks without solutions, and a course for nbgrader.

python scripts/student.py build/course

``release/look_inside`` in that folder is what students get. ``source/look_inside`` keeps the
solutions and is what nbgrader grades by; docs/instructors.md says how.
"""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from helpers.run.errors import WorkbookError, message
from helpers.run.files import ROOT

ASSIGNMENT = "look_inside"
EXERCISE = re.compile(r"\*\*Exercise (\d+)\.(\d+)\*\*")
END = "### END SOLUTION"
# A function of dots returns None, which every checker answers with a line on what to return.
SETTINGS = """\
# Settings of nbgrader, written by scripts/student.py.
c = get_config()
c.ClearSolutions.code_stub = {"python": "# Write your solution here.\\n..."}
c.Execute.timeout = 1800  # seconds for one cell; the first may have to train a network
"""


def mark(notebook: NotebookNode) -> NotebookNode:
    """Mark the exercises for nbgrader, each as a cell to solve and a locked cell that checks it.

    Outputs are removed, for they show what the solution does; cells keep their ids.

    Raises:
        WorkbookError: a solution that belongs to no numbered exercise, or has no check.
    """
    marked, number = [], None
    for cell in notebook.cells:
        found = EXERCISE.search(cell.source)
        number = "-".join(found.groups()) if found else number
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
        marked.append(cell)
        if END not in cell.source:
            continue
        answer, check = cell.source.split(END)
        if number is None or "checks." not in check:
            raise WorkbookError(f"cell {cell.id} has a solution without number or check: add it")
        cell.source = answer + END
        cell.metadata["nbgrader"] = _grading(f"answer-{number}", solution=True)
        checker = nbformat.v4.new_code_cell(check.strip(), id=f"{cell.id}-check")
        checker.metadata["nbgrader"] = _grading(f"check-{number}", grade=True, points=1)
        marked.append(checker)
        number = None
    notebook.cells = marked
    notebook.metadata.pop("look_inside", None)
    return notebook


def _grading(name: str, *, solution=False, grade=False, **points: int) -> dict:
    """Return what nbgrader keeps of a cell; only what checks is locked, and restored later."""
    return {"schema_version": 3, "grade_id": name, "task": False, "solution": solution,
            "grade": grade, "locked": grade, **points}  # fmt: skip


def make(course: Path, notebooks: list[Path]) -> Path:
    """Write the course, and return the folder of the student edition.

    Grades that are in the course already stay there.

    Raises:
        WorkbookError: no nbgrader, no notebooks, or nbgrader refuses them, in its own words.
    """
    if importlib.util.find_spec("nbgrader") is None:
        raise WorkbookError('nbgrader is not installed: pip install -e ".[course]"')
    if not notebooks:
        raise WorkbookError(f"no notebooks to make a student edition of: look in {ROOT.name}/")
    source = course / "source" / ASSIGNMENT
    source.mkdir(parents=True, exist_ok=True)
    for old in source.glob("*.ipynb"):
        old.unlink()
    for path in notebooks:
        nbformat.write(mark(nbformat.read(path, 4)), source / path.name)
    (course / "nbgrader_config.py").write_text(SETTINGS)
    # nbgrader starts the program alembic, which lies beside python but need not be on the path.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [sys.executable, "-m", "nbgrader", "generate_assignment", ASSIGNMENT, "--force"],
        cwd=course, env=os.environ | {"PATH": path}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        reasons = re.findall(r"(?:Error|Exception): *(.+)", done.stderr)
        raise WorkbookError(f"nbgrader can't make the student edition: {(reasons or ['?'])[0]}")
    return course / "release" / ASSIGNMENT


def main() -> int:
    """Read the command line; return the exit status."""
    (course,) = map(Path, sys.argv[1:])
    try:
        release = make(course, sorted((ROOT / "notebooks").glob("[0-9]*.ipynb")))
    except WorkbookError as error:
        print(message(error), file=sys.stderr)
        return 1
    print(f"student edition: {release}")
    print(f"with solutions, not for students: {course / 'source' / ASSIGNMENT}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
