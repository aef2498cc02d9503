"""Small promises of README, docs/instructors.md and data/README.md that no other test runs."""

import ast
import inspect
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import nbformat
import pytest
from IPython.core.interactiveshell import InteractiveShell

from helpers.course import checks, handin
from helpers.data import assets
from helpers.run import errors, profiles
from helpers.run.errors import WorkbookError

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
INSTRUCTORS = (ROOT / "docs" / "instructors.md").read_text(encoding="utf-8")
DATA = (ROOT / "data" / "README.md").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
SOURCES = [
    path
    for folder in ("helpers", "scripts", "tests", "benchmarks", "docs", "notebooks", "report")
    for path in sorted((ROOT / folder).rglob("*"))
    if path.suffix in {".py", ".ipynb", ".toml", ".tex", ".md"}
] + [ROOT / "Snakefile", ROOT / "Makefile"]


def command(*arguments, **variables):
    return subprocess.run(
        [sys.executable, *map(str, arguments)], cwd=ROOT, env=os.environ | variables,
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def words(text):
    return " ".join(text.split())


# ---- an error is one line, unless one asks for more --------------------------------------------

FAULT = "from helpers.run import profiles\nprofiles.load('quik')"


def shown_in_a_notebook(code):
    """What a kernel shows of an error."""
    shell, lines = InteractiveShell(), []
    shell._showtraceback = lambda kind, error, trace: lines.extend(trace)
    shell.run_cell(code)
    return "\n".join(lines)


def test_a_notebook_shows_a_fault_as_one_line_and_in_debugging_all(monkeypatch):
    short = shown_in_a_notebook(FAULT)
    assert len(short.splitlines()) == 1 and short.startswith("WorkbookError: unknown profile")
    monkeypatch.setenv("WORKBOOK_DEBUG", "1")
    long = shown_in_a_notebook(FAULT)
    assert long.startswith("Traceback") and "profiles.py" in long and "did you mean quick" in long
    monkeypatch.setenv("WORKBOOK_DEBUG", "0")
    assert shown_in_a_notebook(FAULT) == short


def test_a_command_shows_a_fault_as_one_line_and_in_debugging_all(tmp_path):
    asked = ("scripts/run_notebook.py", NOTEBOOKS[0], tmp_path / "out.ipynb", "--profile", "quik")
    short = command(*asked).stderr
    assert len(short.splitlines()) == 1 and "did you mean quick" in short
    long = command(*asked, WORKBOOK_DEBUG="1").stderr
    assert long.startswith("Traceback") and "profiles.py" in long and "did you mean quick" in long
    told = (tmp_path / "out.failed.txt").read_text()
    assert told == short, "the end of a run has one line for each notebook that failed"


def test_debugging_shows_the_cause_too(monkeypatch):
    def fail():
        try:
            1 / 0  # noqa: B018
        except ZeroDivisionError as error:
            raise WorkbookError("no") from error

    with pytest.raises(WorkbookError) as caught:
        fail()
    assert errors.message(caught.value) == "no"
    monkeypatch.setenv("WORKBOOK_DEBUG", "1")
    assert "ZeroDivisionError" in errors.message(caught.value)


def test_every_command_that_shortens_a_fault_can_be_debugged():
    for path in sorted((ROOT / "scripts").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ExceptHandler) and "WorkbookError" in ast.unparse(node.type):
                text = ast.unparse(node)
                reports = "print(" in text or "return " in text
                assert not reports or "message(error)" in text or "raise" in text, path.name


# ---- other machines ----------------------------------------------------------------------------


def test_dates_are_written_without_what_only_some_systems_know():
    """``%-d`` is an error on Windows, ``%#d`` elsewhere."""
    for path in SOURCES:
        if path != Path(__file__):
            assert not re.search(r"%[-#][a-zA-Z]\b", path.read_text(encoding="utf-8")), path.name
    assert re.search(r"%[-#][a-zA-Z]\b", "%-d %B")


def test_python_versions_of_the_readme_are_those_of_the_project():
    told = re.findall(r"3\.\d+", re.search(r"Python ((?:3\.\d+(?:, | or )?)+)", README)[1])
    listed = [c.rpartition(" ")[2] for c in PROJECT["classifiers"] if ":: 3." in c]
    assert told == listed
    assert PROJECT["requires-python"] == f">={told[0]}"


@pytest.mark.parametrize("page", ["README.md", "docs/instructors.md", "data/README.md"])
def test_every_extra_that_a_page_installs_is_one_of_the_project(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    for extras in re.findall(r'pip install [^\n]*"?\.\[([\w,]+)\]', text):
        assert set(extras.split(",")) <= set(PROJECT["optional-dependencies"]), extras


# ---- the table of profiles ---------------------------------------------------------------------


def row(title):
    """Return the cells of a row of the README's table of profiles."""
    (line,) = re.findall(rf"^\| {re.escape(title)} \|(.+)\|$", README, re.MULTILINE)
    return dict(zip(("quick", "laptop", "full"), map(str.strip, line.split("|")), strict=True))


NAMES = {
    "shapes": "Shapes", "cifar10": "CIFAR-10", "postcards": "postcards",
    "newsgroups20": "20 newsgroups", "shapes_net": "small residual net", "resnet56": "ResNet-56",
    "resnet18": "ResNet-18", "resnet50": "ResNet-50", "mobilenet_v2": "MobileNetV2",
    "vit_b_16": "ViT-B/16", "deit_tiny": "DeiT-tiny",
}  # fmt: skip


@pytest.mark.parametrize("name", ["quick", "laptop", "full"])
def test_the_table_of_profiles_says_what_each_takes(name):
    profile = profiles.load(name)
    assert NAMES[profile.dataset] in row("images")[name]
    assert NAMES[profile.model] in row("classifier")[name]
    assert ("public weights" in row("classifier")[name]) == (profile.start != "random")
    assert NAMES[profile.text] in row("texts")[name]
    for model in filter(None, (profile.imagenet_model, profile.imagenet_vit)):
        assert NAMES[model] in row("ten ImageNet images")[name]
    assert ("CLIP-Dissect" in row("dissection")[name]) == bool(profile.dissection.clip)
    assert ("none" in row("network needed")[name]) == (name == "quick")


# ---- what is not here --------------------------------------------------------------------------


def tracked():
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True,
                          check=False)  # fmt: skip
    if done.returncode:
        pytest.skip("not a git checkout")
    return [name for name in done.stdout.split("\0") if name]


def test_no_data_of_others_are_redistributed():
    names = tracked()
    assert not [n for n in names if re.search(r"\.(tar|gz|xz|zip|th|pth|safetensors|JPEG)$", n)]
    files = {
        Path(url).name for entry in assets.catalogue().values() for url in entry.get("urls", [])
    }
    assert not files & {Path(name).name for name in names}
    weights = json.loads((ROOT / "data" / "weights" / "weights.json").read_text(encoding="utf-8"))
    assert {f"data/weights/{each['file']}" for each in weights.values()} == {
        name for name in names if name.endswith(".pt")
    }, "all weights here are our own"


def test_every_tool_in_the_credits_is_used():
    (line,) = re.findall(r"^\| running and testing \| (.+) \|$", README, re.MULTILINE)
    extras = [each for extra in PROJECT["optional-dependencies"].values() for each in extra]
    needed = " ".join([*PROJECT["dependencies"], *extras])
    for tool in line.split(", "):
        assert tool.lower() in needed, tool


def test_only_what_dissection_can_do_without_has_no_public_address():
    assert "has no public address" in words(DATA)
    lacking = [entry for entry in assets.catalogue().values() if entry.get("urls") == []]
    assert lacking
    for entry in lacking:
        assert re.search("network dissection, where a mirror holds (it|them)", entry["used_by"])


def test_notebooks_with_networks_of_their_own_ask_whether_to_train():
    told = re.search(r"`TRAIN = True` notebooks ((?:\d+,? (?:and )?)+)", words(DATA))[1]
    asking = [path.stem[:2] for path in NOTEBOOKS if '"TRAIN = False' in path.read_text()]
    assert [f"{int(n):02}" for n in re.findall(r"\d+", told)] == asking


# ---- for instructors ---------------------------------------------------------------------------


def test_the_pages_say_how_to_make_a_mirror():
    for text in (INSTRUCTORS, DATA):
        assert "make mirror" in text and "WORKBOOK_MIRROR" in text
    assert re.search(r"^mirror:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)


def test_a_notebook_can_be_graded_cell_by_cell_without_nbgrader(tmp_path):
    """As the page says, with nbval: a line for each cell, and the words of the checker."""
    right = "from helpers.course import checks\ndef iou(a, b):\n    return 1"
    book = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(source) for source in (right, "checks.iou(iou)")],
        metadata={"kernelspec": {"name": "python3", "display_name": "", "language": "python"}},
    )
    assert hasattr(checks, "iou")
    nbformat.write(book, tmp_path / "01_student.ipynb")
    asked = re.search(r"WORKBOOK_PROFILE=quick pytest (.+) \S+\.ipynb", INSTRUCTORS)[1]
    done = command("-m", "pytest", "-p", "no:cacheprovider", "--rootdir", tmp_path,
                   *asked.split(), tmp_path / "01_student.ipynb")  # fmt: skip
    assert re.search(r"Cell 0 PASSED", done.stdout), done.stdout
    assert re.search(r"Cell 1 FAILED", done.stdout)
    assert "is not right yet" in done.stdout


def test_what_scores_hand_ins_has_the_names_and_arguments_of_the_page():
    names = set(re.findall(r"\bhandin\.(\w+)", INSTRUCTORS))
    assert {"grade", "submit", "PEERS"} <= names
    for name in names:
        assert hasattr(handin, name), name
    # grade() hands these on to score().
    assert {"seconds", "server_like"} <= set(inspect.signature(handin.score).parameters)
    assert inspect.signature(handin.submit).parameters["header"].default == "token"
    told = re.findall(r"0\.\d{4}", INSTRUCTORS)
    assert all(each in str(handin.PEERS) for each in told) and len(told) == 4


def test_cleaning_keeps_downloads_checkpoints_and_the_committed_figures():
    done = subprocess.run(["make", "-n", "clean"], cwd=ROOT, capture_output=True, text=True,
                          check=True)  # fmt: skip
    removed = done.stdout.split()[2:]
    assert "build" in removed
    assert not [each for each in removed if each.startswith("data") or each == "figures/laptop"]


def test_the_cells_for_colab_keep_what_the_first_cell_of_a_notebook_keeps():
    """test_colab.py runs that cell in a simulated Colab."""
    setup = nbformat.read(NOTEBOOKS[0], 4).cells
    (setup,) = (cell.source for cell in setup if "setup" in cell.metadata.get("tags", []))
    kept = re.search(r"pip list --format=freeze .+ > keep\.txt", setup)[0]
    line = re.search(r"^!cd look-inside && pip list .*$", README, re.MULTILINE)[0]
    assert kept in line and "pip install -q -c keep.txt -e" in line
    assert "pip install -q -c keep.txt -e" in setup


def test_exercises_do_not_depend_on_the_profile():
    """Checkers bring their own cases: none is told of a profile."""
    for path in NOTEBOOKS:
        for cell in nbformat.read(path, 4).cells:
            for call in re.findall(r"^checks\.\w+\((.*)\)", cell.source, re.MULTILINE):
                assert re.fullmatch(r"\w+", call), f"{path.name}: checks.…({call})"
    for path in (ROOT / "helpers" / "course" / "checks").glob("*.py"):
        assert "profiles" not in path.read_text(encoding="utf-8"), path.name


# ---- which test keeps which promise ------------------------------------------------------------


def test_every_promise_has_a_test_that_exists():
    tests = {
        path.name: set(re.findall(r"^def (test_\w+)", path.read_text("utf-8"), re.MULTILINE))
        for path in (ROOT / "tests").glob("test_*.py")
    }
    rows = (ROOT / "tests" / "promises.md").read_text("utf-8").splitlines()
    rows = [line for line in rows if re.match(r"\| \d+ \|", line)]
    assert [int(line.split("|")[1]) for line in rows] == list(range(1, len(rows) + 1))
    for line in rows:
        kept_by, file = line.split("|")[3], ""
        assert re.search(r"test_\w+\.py|conftest\.py|\.ci/run|\b\d+\b|measured", kept_by), line
        for named, test in re.findall(r"(test_\w+\.py)?(?:::(test_\w+))?", kept_by):
            file = named or file
            assert not file or file in tests, file
            assert not test or test in tests[file], f"{file}::{test}"
