"""The runner: what can fail is refused before it starts, and what fails leaves no output."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parent.parent
NAMES = [path.stem for path in sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))]


@pytest.fixture
def run(tmp_path):
    """Return a function that runs a notebook of one cell with scripts/run_notebook.py."""

    def start(code, *options):
        parameters = nbformat.v4.new_code_cell('PROFILE = "auto"\nMODEL = "auto"')
        parameters.metadata["tags"] = ["parameters"]
        book = nbformat.v4.new_notebook(cells=[parameters, nbformat.v4.new_code_cell(code)])
        book.metadata["kernelspec"] = {"name": "python3", "display_name": "", "language": "python"}
        notebook = tmp_path / "source" / "01_small.ipynb"
        notebook.parent.mkdir(exist_ok=True)
        nbformat.write(book, notebook)
        output = tmp_path / "build" / "01_small.ipynb"
        script = ROOT / "scripts" / "run_notebook.py"
        done = subprocess.run(
            [sys.executable, script, notebook, output, *options],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        return done, output

    return start


def last_line(done):
    """The last line of stderr, after the progress bar; an error must have no traceback."""
    assert "Traceback" not in done.stderr, done.stderr
    return done.stderr.strip().splitlines()[-1]


def printed(output):
    cells = nbformat.read(output, 4).cells
    return "".join(o.text for o in cells[-1].outputs if o.output_type == "stream")


SHOW = "import os; print(os.environ['WORKBOOK_PROFILE'], MODEL, os.path.basename(os.getcwd()))"


def test_a_notebook_runs_in_its_own_folder_with_profile_and_parameters(run):
    done, output = run(SHOW, "--profile", "laptop", "-p", "MODEL", "resnet20")
    assert done.returncode == 0, done.stderr
    assert printed(output) == "laptop resnet20 source\n"
    assert "01_small (laptop)" in done.stderr, "no progress was shown"
    assert "IPKernelApp" not in done.stderr, "the log of the kernel is shown"


def test_without_parameters_the_executed_notebook_has_the_same_cells(run):
    done, output = run(SHOW, "--profile", "quick")
    assert done.returncode == 0, done.stderr
    assert printed(output) == "quick auto source\n"
    assert len(nbformat.read(output, 4).cells) == 2


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["-p", "MODLE", "resnet20"], ["'MODLE'", "01_small.ipynb", "did you mean MODEL"]),
        (["--profile", "quik"], ["'quik'", "did you mean quick"]),
        (["-p", "PROFILE", "laptop"], ["'PROFILE'"]),
    ],
    ids=["parameter", "profile", "profile as parameter"],
)
def test_an_unknown_name_is_refused_before_anything_runs(run, tmp_path, options, words):
    done, output = run("open('../started', 'w').close()", "--profile", "quick", *options)
    assert done.returncode == 1
    line = last_line(done)
    assert len(done.stderr.strip().splitlines()) == 1
    assert all(word in line for word in words), line
    assert not output.exists()
    assert not (tmp_path / "started").exists()


def test_a_failed_cell_leaves_no_output_but_a_notebook_to_look_at(run):
    done, output = run("raise ValueError('the disk\\nis on fire')", "--profile", "quick")
    assert done.returncode == 1
    line = last_line(done)
    assert "01_small.ipynb failed in cell 2: ValueError: the disk (see " in line
    assert not output.exists()
    failed = nbformat.read(output.with_suffix(".failed.ipynb"), 4)
    assert any(o.output_type == "error" for o in failed.cells[-1].outputs)


def test_a_failed_run_keeps_the_earlier_output_and_a_good_one_clears_the_failed(run):
    _, output = run("print(1)", "--profile", "quick")
    before = output.read_bytes()
    run("1 / 0", "--profile", "quick")
    assert output.read_bytes() == before
    assert output.with_suffix(".failed.ipynb").exists()
    run("print(2)", "--profile", "quick")
    assert printed(output) == "2\n"
    assert not output.with_suffix(".failed.ipynb").exists()


def test_a_missing_notebook_is_one_line(tmp_path):
    script = ROOT / "scripts" / "run_notebook.py"
    done = subprocess.run(
        [sys.executable, script, tmp_path / "99_none.ipynb", tmp_path / "out.ipynb"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "99_none.ipynb" in last_line(done)


# ---- Snakemake ---------------------------------------------------------------------------------


@pytest.fixture
def plan(tmp_path):
    """Return a function that gives Snakemake's plan for a copy of the project."""
    pytest.importorskip("snakemake")
    for name in ("notebooks", "helpers", "scripts"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "report").mkdir()
    for name in ("Snakefile", "report/report.tex", "report/references.bib"):
        shutil.copy(ROOT / name, tmp_path / name)

    def dry_run(*config):
        done = subprocess.run(
            [sys.executable, "-m", "snakemake", "-n", "-p", "--cores", "1", "--config", *config],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    return dry_run


def test_one_job_is_planned_for_each_notebook(plan):
    jobs = re.findall(
        r"run_notebook\.py notebooks/(\w+)\.ipynb (\S+) --profile (\w+)", plan("profile=quick")
    )
    assert sorted(jobs) == [(n, f"build/quick/notebooks/{n}.ipynb", "quick") for n in NAMES]
    assert jobs[0][0] == NAMES[0], "the notebook that trains must come first"


def test_profile_and_parameters_reach_every_job(plan):
    text = plan("profile=laptop", "params=DATASET=folder:/a/b START=random")
    commands = re.findall(r"run_notebook\.py .*", text)
    assert len(commands) == len(NAMES)
    for command in commands:
        assert "--profile laptop" in command
        assert "-p DATASET 'folder:/a/b'" in command
        assert "-p START 'random'" in command


def test_no_parameters_are_no_fault(plan):
    assert "run_notebook.py" in plan("profile=quick", "params=")
