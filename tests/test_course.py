"""What is handed out and handed in: the student edition, its grading, and the submission zip."""

import ast
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from copy import deepcopy
from pathlib import Path

import nbformat
import pytest

from helpers.course.checks import NotYet
from helpers.run.errors import WorkbookError

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))
import student  # noqa: E402
import submission  # noqa: E402

NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
REGION = re.compile(r"^ *### BEGIN SOLUTION\n(.*?)\n *### END SOLUTION$", re.DOTALL | re.MULTILINE)

every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)


def read(path):
    return nbformat.read(path, 4)


def graded(notebook, kind):
    """Return the cells marked for nbgrader as "solution" or as "grade", by name."""
    marks = {cell.metadata.get("nbgrader", {}).get("grade_id"): cell for cell in notebook.cells}
    return {name: cell for name, cell in marks.items() if name and cell.metadata.nbgrader[kind]}


# ---- the student edition -----------------------------------------------------------------------


@pytest.fixture(scope="session")
def release(tmp_path_factory):
    """The student edition of all notebooks."""
    return student.make(tmp_path_factory.mktemp("course"), NOTEBOOKS)


def texts(value):
    """Yield every string in a notebook: sources, outputs, metadata."""
    if isinstance(value, dict):
        value = [*value.keys(), *value.values()]
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for part in value:
            yield from texts(part)


def left_over(original, edition):
    """Return the lines of the original's solutions that the edition still has somewhere."""
    sources = "\n".join(cell.source for cell in original.cells)
    solution = [line.strip() for part in REGION.findall(sources) for line in part.splitlines()]
    elsewhere, everything = REGION.sub("", sources), "\n".join(texts(edition))
    return [line for line in solution if line in everything and line not in elsewhere]


def test_all_notebooks_are_in_the_student_edition(release):
    assert [path.name for path in sorted(release.iterdir())] == [path.name for path in NOTEBOOKS]


@every_notebook
def test_nothing_of_a_solution_is_left(release, path):
    original, edition = read(path), read(release / path.name)
    secret = left_over(original, original)
    assert len(secret) >= len(graded(edition, "solution")) > 0
    assert left_over(original, edition) == []
    assert "SOLUTION" not in "\n".join(texts(edition))


def test_a_solution_left_in_an_output_or_in_metadata_would_be_noticed(release):
    original, edition = read(NOTEBOOKS[0]), read(release / NOTEBOOKS[0].name)
    line = left_over(original, original)[0]
    output = nbformat.v4.new_output("stream", text=f"1 | {line}\n")
    edition.cells[1].outputs.append(output)
    assert left_over(original, edition) == [line]
    edition.cells[1].outputs.clear()
    edition.cells[0].metadata["note"] = {"old": [line]}
    assert left_over(original, edition) == [line]


@every_notebook
def test_the_student_edition_has_no_outputs_and_all_else_as_it_was(release, path):
    original, edition = read(path), read(release / path.name)
    nbformat.validate(edition)
    for cell in edition.cells:
        assert not cell.get("outputs") and not cell.get("execution_count")
        assert set(cell.metadata) <= {
            "tags", "cellView", "jupyter", "nbgrader", "deletable", "editable",
        }  # fmt: skip
    assert "look_inside" not in edition.metadata
    checks = graded(edition, "grade").values()
    kept = [cell for cell in edition.cells if cell not in checks]
    assert [cell.id for cell in kept] == [cell.id for cell in original.cells]
    for cell, before in zip(kept, original.cells, strict=True):
        if "SOLUTION" not in before.source:
            assert cell.source == before.source, "badges, setup and lessons must stay"


@every_notebook
def test_every_exercise_has_a_stub_and_a_locked_check_below_it(release, path):
    original, edition = read(path), read(release / path.name)
    numbers = re.findall(r"\*\*Exercise (\d+)\.(\d+)\*\*", "\n".join(texts(original)))
    assert list(graded(edition, "solution")) == [f"answer-{a}-{b}" for a, b in numbers]
    assert list(graded(edition, "grade")) == [f"check-{a}-{b}" for a, b in numbers]
    order = [cell.id for cell in edition.cells]
    for answer, check in zip(graded(edition, "solution").values(),
                             graded(edition, "grade").values(), strict=True):  # fmt: skip
        assert answer.source.endswith("    # Write your solution here.\n    ...")
        assert order.index(check.id) == order.index(answer.id) + 1
        assert re.fullmatch(r"checks\.\w+\(\w+\)", check.source)
        assert check.metadata.editable is check.metadata.deletable is False
        assert check.metadata.nbgrader.points == 1


def namespace(notebook):
    """Return what the imports of a notebook define."""
    names = {}
    for cell in notebook.cells:
        if cell.cell_type == "code" and "setup" not in cell.metadata.get("tags", []):
            for line in ast.parse(cell.source).body:
                if isinstance(line, ast.Import | ast.ImportFrom):
                    exec(ast.unparse(line), names)
    return names


@every_notebook
def test_every_stub_is_refused_in_words(release, path, one_line):
    edition = read(release / path.name)
    names = namespace(edition)
    for answer, check in zip(graded(edition, "solution").values(),
                             graded(edition, "grade").values(), strict=True):  # fmt: skip
        exec(answer.source, names)
        with pytest.raises(NotYet) as error:
            exec(check.source, names)
        number = check.metadata.nbgrader.grade_id.removeprefix("check-").replace("-", ".")
        one_line(error, f"Exercise {number} is not right yet: ", "must return")


@every_notebook
def test_every_solution_passes_when_written_into_the_student_edition(release, path, capsys):
    edition, names = read(release / path.name), namespace(read(path))
    solutions = REGION.findall("\n".join(cell.source for cell in read(path).cells))
    answers, checks = graded(edition, "solution").values(), graded(edition, "grade").values()
    for answer, check, solution in zip(answers, checks, solutions, strict=True):
        stub = "    # Write your solution here.\n    ..."
        exec(answer.source.replace(stub, solution), names)
        exec(check.source, names)
    assert capsys.readouterr().out.count(": correct.\n") == len(solutions)


def small_book(*sources):
    """Return a notebook of code cells, but Markdown where a source begins with stars."""
    book = nbformat.v4.new_notebook(metadata=read(NOTEBOOKS[0]).metadata)
    for source in sources:
        kind = "markdown" if source.startswith("**") else "code"
        book.cells.append(getattr(nbformat.v4, f"new_{kind}_cell")(source))
    return book


SOLVED = "def f():\n    ### BEGIN SOLUTION\n    return 1\n    ### END SOLUTION"


@pytest.mark.parametrize(
    "sources", [(SOLVED + "\n\nchecks.f(f)",), ("**Exercise 1.1** Do it.", SOLVED)],
    ids=["no number", "no check"],
)  # fmt: skip
def test_a_solution_that_nobody_checks_is_refused(sources, one_line):
    with pytest.raises(WorkbookError) as error:
        student.mark(small_book(*sources))
    one_line(error, "has a solution without number or check")


def test_what_nbgrader_refuses_is_told_in_its_words(tmp_path, one_line):
    twice = ["**Exercise 1.1** Do it.", SOLVED + "\n\nchecks.f(f)"] * 2
    nbformat.write(small_book(*twice), tmp_path / "01_twice.ipynb")
    with pytest.raises(WorkbookError) as error:
        student.make(tmp_path / "course", [tmp_path / "01_twice.ipynb"])
    one_line(error, "nbgrader can't make the student edition", "answer-1-1")


def test_a_missing_nbgrader_is_named(tmp_path, monkeypatch, one_line):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(WorkbookError) as error:
        student.make(tmp_path, NOTEBOOKS)
    one_line(error, "nbgrader is not installed", "[course]")
    assert not list(tmp_path.iterdir())


# ---- grading -----------------------------------------------------------------------------------


@pytest.mark.slow
def test_nbgrader_gives_a_point_for_each_solved_exercise(tmp_path):
    """Two students: one solved all; one solved half, and rewrote the checks so that they agree."""
    path = ROOT / "notebooks" / "02_filters.ipynb"
    original = read(path)
    # Of the notebook only what the exercises need: the rest would take a minute per student.
    original.cells = [
        cell for cell in original.cells
        if "**Exercise" in cell.source or "SOLUTION" in cell.source or "import torch" in cell.source
    ]  # fmt: skip
    for cell in original.cells:
        cell.source = cell.source.partition("\nprofile = ")[0]
    nbformat.write(original, tmp_path / path.name)
    course = tmp_path / "course"
    edition = read(student.make(course, [tmp_path / path.name]) / path.name)
    solved = read(course / "source" / student.ASSIGNMENT / path.name)
    cheat = deepcopy(edition)
    # The first one is not solved, which is an error in the middle of the notebook.
    graded(cheat, "solution")["answer-2-2"].source = graded(solved, "solution")["answer-2-2"].source
    for check in graded(cheat, "grade").values():
        check.source = "print('correct.')"
    for name, book in {"all": solved, "half": cheat}.items():
        (folder := course / "submitted" / name / student.ASSIGNMENT).mkdir(parents=True)
        nbformat.write(book, folder / path.name)
    grade = [sys.executable, "-m", "nbgrader"]
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for command in (
        ["autograde", student.ASSIGNMENT, "--notebook", "02_*"], ["export"],
        ["generate_feedback", student.ASSIGNMENT],
    ):  # fmt: skip
        done = subprocess.run([*grade, *command], cwd=course, env=os.environ | {"PATH": programs},
                              capture_output=True, text=True, check=False)  # fmt: skip
        assert done.returncode == 0, done.stderr
    rows = [line.split(",") for line in (course / "grades.csv").read_text().splitlines()]
    column = rows[0].index
    scores = {row[column("student_id")]: row[column("raw_score")] for row in rows[1:]}
    assert scores == {"all": "2.0", "half": "1.0"}
    for name in scores:
        page = course / "feedback" / name / student.ASSIGNMENT / "02_filters.html"
        assert "is not right yet" in page.read_text() if name == "half" else page.exists()


def test_the_instructors_page_names_what_exists():
    page = ROOT / "docs" / "instructors.md"
    text, makefile = page.read_text(), (ROOT / "Makefile").read_text()
    for link in re.findall(r"\]\(([^)]+)\)", text):
        path, _, anchor = link.partition("#")
        if not link.startswith("https:"):
            target = (page.parent / path).resolve() if path else page
            titles = re.findall(r"^#+ (.+)$", target.read_text(), re.MULTILINE)
            anchors = {re.sub(r"[^\w -]", "", title).replace(" ", "-").lower() for title in titles}
            assert not anchor or anchor in anchors, link
    for name in re.findall(r"(?:`|^)make ([a-z]+)", text, re.MULTILINE):
        assert re.search(rf"^{name}:", makefile, re.MULTILINE), name
    for name in re.findall(r"\b(?:scripts|helpers|tests|notebooks)/\w+\.\w+", text):
        assert (ROOT / name).exists(), name
    assert f"release/{student.ASSIGNMENT}/" in text and f"autograde {student.ASSIGNMENT}\n" in text


# ---- the submission ----------------------------------------------------------------------------


@pytest.fixture
def project(tmp_root):
    """A copy of the project whose notebooks are rendered, and what a hand-in must not hold."""
    for folder in ("helpers", "notebooks", "scripts", "report", "docs", "data/masks",
                   "data/concepts", "figures/laptop"):  # fmt: skip
        if (ROOT / folder).exists():
            shutil.copytree(ROOT / folder, tmp_root / folder)
    for name in ("README.md", "LICENSE", "pyproject.toml", "environment.yml", "Makefile",
                 "Snakefile", "data/README.md"):  # fmt: skip
        shutil.copy(ROOT / name, tmp_root / name)
    for path in (tmp_root / "notebooks").glob("*.ipynb"):
        notebook = read(path)
        notebook.metadata["look_inside"] = {
            "profile": "laptop", "code_hash": submission.code_hash(notebook)
        }  # fmt: skip
        nbformat.write(notebook, path)
    for name in ("build/laptop/report.pdf", "data/cache/x.zip",
                 "data/checkpoints/net.pt", "helpers/__pycache__/x.pyc", "helpers/.DS_Store",
                 "notebooks/Untitled.ipynb", "notebooks/keep.txt", "build/a.ipynb",
                 "figures/laptop/99_gallery.png", "report/report.log", ".env"):  # fmt: skip
        (tmp_root / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_root / name).write_bytes(b"stand-in for " + name.encode())
    hand_in(tmp_root, "laptop")
    return tmp_root


def hand_in(project, profile):
    """Write LIME parameters as the run of a profile does; return the file."""
    run = project / "figures" / profile
    (run / "results").mkdir(parents=True, exist_ok=True)
    path, content = run / "explain_params.pkl", f"parameters of {profile}".encode()
    path.write_bytes(content)
    made = {"value": hashlib.sha256(content).hexdigest(), "notebook": "06_lime"}
    book = {"notebooks": {}, "numbers": {"handin/fingerprint": made}, "tables": {}}
    (run / "results" / "06_lime.json").write_text(json.dumps(book))
    return path


def names_in(path):
    with zipfile.ZipFile(path) as archive:
        return [name.removeprefix(f"{submission.TOP}/") for name in archive.namelist()]


def test_the_zip_holds_what_is_asked_for_and_nothing_else(project):
    submission.pack(project / "s.zip")
    names = names_in(project / "s.zip")
    assert {"report/report.pdf", "README.md", "explain_params.pkl", "environment.yml",
            "pyproject.toml", "LICENSE", "helpers/run/profiles.toml"} <= set(names)  # fmt: skip
    assert [n for n in names if n.endswith(".ipynb")] == [f"notebooks/{p.name}" for p in NOTEBOOKS]
    code = (ROOT / "helpers").rglob("*.py")
    assert {path.relative_to(ROOT).as_posix() for path in code} <= set(names)
    kept_out = r"cache|data/checkpoints|\.pt$|\.pyc|DS_Store|\.env|Untitled|keep"
    for name in names:
        assert not re.search(kept_out, name), name
        assert "99_gallery" not in name and not name.endswith(".log")
    assert (project / "s.zip").stat().st_size < 20_000_000


def test_the_same_files_give_the_same_bytes(project):
    submission.pack(project / "one.zip")
    for path in sorted(project.rglob("*.py"), reverse=True):
        path.write_bytes(path.read_bytes())
        path.chmod(0o755)
        os.utime(path, (1e9, 1e9))
    submission.pack(project / "two.zip")
    assert (project / "one.zip").read_bytes() == (project / "two.zip").read_bytes()
    with zipfile.ZipFile(project / "one.zip") as archive:
        infos = archive.infolist()
    assert [i.filename for i in infos] == sorted(i.filename for i in infos)
    assert {(i.date_time, i.external_attr >> 16) for i in infos} == {
        ((1980, 1, 1, 0, 0, 0), 0o100644)
    }
    (project / "README.md").write_text("another")
    submission.pack(project / "two.zip")
    assert (project / "one.zip").read_bytes() != (project / "two.zip").read_bytes()


def unpack(project, folder):
    submission.pack(project / "s.zip")
    with zipfile.ZipFile(project / "s.zip") as archive:
        archive.extractall(folder)
    return folder / submission.TOP


def test_every_link_of_the_readme_leads_to_a_file_of_the_zip(project, tmp_path_factory):
    unpacked = unpack(project, tmp_path_factory.mktemp("elsewhere"))
    links = re.findall(r"\]\(([^)\s]+)\)", (unpacked / "README.md").read_text())
    links = [link for link in links if not re.match(r"https?:|#|mailto:", link)]
    assert any(link.startswith("notebooks/") for link in links)
    for link in links:
        assert (unpacked / link.partition("#")[0]).exists(), link


@pytest.mark.slow
def test_a_notebook_runs_in_the_unpacked_zip(project, tmp_path_factory):
    unpacked = unpack(project, tmp_path_factory.mktemp("elsewhere"))
    if (ROOT / "data" / "checkpoints").exists():  # else the notebook trains its network itself
        shutil.copytree(ROOT / "data" / "checkpoints", unpacked / "data" / "checkpoints")
    environment = os.environ | {"PYTHONPATH": str(unpacked)}
    del environment["WORKBOOK_DATA"]
    done = subprocess.run(
        [sys.executable, "scripts/run_notebook.py", "notebooks/03_feature_maps.ipynb",
         "out/03.ipynb", "--profile", "quick"],
        cwd=unpacked, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (unpacked / "out" / "03.ipynb").exists()
    assert list((unpacked / "figures" / "quick").glob("03_*.png")), "the zip's own helpers ran"


@pytest.mark.parametrize("fault", ["changed", "never run"])
def test_a_notebook_with_old_outputs_is_not_handed_in(project, fault, one_line):
    path = project / "notebooks" / NOTEBOOKS[1].name
    notebook = read(path)
    if fault == "changed":
        notebook.cells[1].source += "\n1 + 1"
    else:
        del notebook.metadata["look_inside"]
    nbformat.write(notebook, path)
    with pytest.raises(WorkbookError) as error:
        submission.pack(project / "s.zip")
    one_line(error, path.name, "make render")
    assert not (project / "s.zip").exists()


def relabel(project, profile, paths):
    for path in paths:
        notebook = read(project / "notebooks" / path.name)
        notebook.metadata.look_inside.profile = profile
        nbformat.write(notebook, project / "notebooks" / path.name)


def test_notebooks_of_two_profiles_are_not_mixed(project, one_line):
    relabel(project, "full", NOTEBOOKS[:1])
    with pytest.raises(WorkbookError) as error:
        submission.pack(project / "s.zip")
    one_line(error, "full and laptop", "make render")


def test_the_report_is_that_of_the_notebooks(project, one_line):
    (committed := project / "report" / "report.pdf").write_bytes(b"committed")
    assert submission.report_of("laptop") == project / "build" / "laptop" / "report.pdf"
    (project / "build" / "laptop" / "report.pdf").unlink()
    assert submission.report_of("laptop") == committed
    relabel(project, "full", NOTEBOOKS)
    with pytest.raises(WorkbookError) as error:
        submission.pack(project / "s.zip")
    one_line(error, "profile full", "make report PROFILE=full")


def test_the_parameters_are_those_of_the_run_that_the_report_is_of(project):
    """After PROFILE=full the zip has the parameters of full, and not those of laptop."""
    relabel(project, "full", NOTEBOOKS)
    (project / "build" / "full").mkdir()
    (project / "build" / "full" / "report.pdf").write_bytes(b"report of full")
    submission.pack(project / "s.zip")
    assert "explain_params.pkl" not in names_in(project / "s.zip"), "full has not made any yet"
    hand_in(project, "full")
    submission.pack(project / "s.zip")
    with zipfile.ZipFile(project / "s.zip") as archive:
        packed = archive.read(f"{submission.TOP}/explain_params.pkl")
        assert archive.read(f"{submission.TOP}/report/report.pdf") == b"report of full"
    assert packed == b"parameters of full"


@pytest.mark.parametrize("fault", ["of another run", "results without a word", "no results"])
def test_parameters_that_the_run_has_not_recorded_are_refused(project, fault, one_line):
    results = project / "figures" / "laptop" / "results" / "06_lime.json"
    if fault == "of another run":
        shutil.copy(hand_in(project, "full"), project / "figures" / "laptop")
    elif fault == "no results":
        results.unlink()
    else:
        results.write_text('{"notebooks": {}, "numbers": {}, "tables": {}}')
    with pytest.raises(WorkbookError) as error:
        submission.pack(project / "s.zip")
    one_line(error, "explain_params.pkl in figures/laptop", "results/06_lime.json", "make run")
    assert not (project / "s.zip").exists()


def test_a_zip_that_is_too_large_is_not_written(project, monkeypatch, one_line):
    monkeypatch.setattr(submission, "LARGEST", 1_000_000)
    noise = os.urandom(1_100_000)
    (project / "build" / "laptop" / "report.pdf").write_bytes(noise + noise + noise)
    with pytest.raises(WorkbookError) as error:
        submission.pack(project / "s.zip")
    one_line(error, "more than 1: ", "report/report.pdf")
    assert not list(project.glob("*.zip")) and not list(project.glob(".*.zip"))


def test_without_lime_parameters_the_zip_is_made_and_says_so(project, monkeypatch, capsys):
    (project / "figures" / "laptop" / "explain_params.pkl").unlink()
    monkeypatch.setattr(sys, "argv", ["submission.py", str(project / "s.zip")])
    assert submission.main() == 0
    assert "no explain_params.pkl: notebook 6 writes it" in capsys.readouterr().out
    assert "explain_params.pkl" not in names_in(project / "s.zip")
