"""The runner: what can fail is refused before it starts, and what fails leaves no output."""

import ast
import importlib.util
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
import torch
from nbformat.v4 import new_code_cell

from helpers.nets import training
from helpers.run import profiles

ROOT = Path(__file__).resolve().parent.parent
NAMES = [path.stem for path in sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))]


@pytest.fixture
def run(tmp_path):
    """Return a function that runs a notebook of one cell with scripts/run_notebook.py."""

    def start(code, *options):
        parameters = new_code_cell('PROFILE = "auto"\nMODEL = "auto"\nTRAIN = False')
        parameters.metadata["tags"] = ["parameters"]
        book = nbformat.v4.new_notebook(cells=[parameters, new_code_cell(code)])
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


SHOW = (
    "import os; e = os.environ; print(e['WORKBOOK_PROFILE'], e['WORKBOOK_RUN'], MODEL, TRAIN,"
    "os.path.basename(os.getcwd()))"
)


def test_a_notebook_runs_in_its_own_folder_with_profile_and_parameters(run):
    done, output = run(
        SHOW, "--profile", "laptop", "-p", "MODEL", "resnet20", "-p", "TRAIN", "True"
    )
    assert done.returncode == 0, done.stderr
    assert printed(output) == "laptop laptop-model-resnet20-train-True resnet20 True source\n"
    assert "01_small (laptop)" in done.stderr, "no progress was shown"
    assert "IPKernelApp" not in done.stderr, "the log of the kernel is shown"


def test_without_parameters_the_executed_notebook_has_the_same_cells(run):
    done, output = run(SHOW, "--profile", "quick")
    assert done.returncode == 0, done.stderr
    assert printed(output) == "quick quick auto False source\n"
    assert len(nbformat.read(output, 4).cells) == 2


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["-p", "MODLE", "resnet20"], ["'MODLE'", "01_small.ipynb", "did you mean MODEL"]),
        (["--profile", "quik"], ["'quik'", "did you mean quick"]),
        (["-p", "PROFILE", "laptop"], ["'PROFILE'"]),
        (["-p", "TRAIN", "perhaps"], ["TRAIN", "'perhaps'", "True or False"]),
    ],
    ids=["parameter", "profile", "profile as parameter", "value"],
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
    assert output.with_suffix(".failed.txt").read_text() == line + "\n"
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
    assert [path.name for path in output.parent.iterdir()] == [output.name]


def test_a_notebook_that_is_killed_is_told_later(run):
    kill = "import os, signal; os.kill(os.getppid(), signal.SIGKILL)"
    done, output = run(kill, "--profile", "quick")
    assert done.returncode != 0
    assert "01_small.ipynb was stopped or killed" in output.with_suffix(".failed.txt").read_text()


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

# A notebook of the small project notes that it ran, and fails or waits where a file says so.
BODY = """
import json, os, time
from pathlib import Path

top, run = Path("..").resolve(), os.environ["WORKBOOK_RUN"]
with (top / "started.txt").open("a") as log:
    log.write(f"{NAME} {run} {MODEL!r} {globals().get('WORDS')!r}\\n")
if NAME in (top / "fail.txt").read_text():
    raise ValueError("broken\\non purpose")
while NAME in (top / "wait.txt").read_text():
    time.sleep(0.1)
folder = top / "figures" / run / "results"
folder.mkdir(parents=True, exist_ok=True)
(folder / f"{NAME}.json").write_text(json.dumps(MODEL))
"""

TRAIN = """
import sys
from pathlib import Path

name, output, *options = sys.argv[1:]
with open("trained.txt", "a") as log:
    print(name, Path(output).parts[1], *options, file=log)
Path(output).parent.mkdir(parents=True, exist_ok=True)
Path(output).write_text("weights")
"""

SMALL = ("01_train", "02_filters", "05_failures", "11_text")


class Project:
    """A copy of runner and helpers with four tiny notebooks and a training that only notes itself.

    There is no LaTeX, and no graphics card.
    """

    def __init__(self, folder):
        self.folder, tools = folder, folder / "tools"
        hidden = ("latexmk", "nvidia-smi")
        path = [p for p in os.environ["PATH"].split(os.pathsep)
                if not any((Path(p) / name).exists() for name in hidden)]  # fmt: skip
        plain = {
            k: v for k, v in os.environ.items() if k[:4] not in ("PROF", "MAKE", "PARA", "WORK")
        }
        path = os.pathsep.join([str(tools), *path])
        self.env = plain | {"PYTHONPATH": str(folder), "PATH": path}

    def prepare(self, names=SMALL, programs=()):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / "helpers/run", self.folder / "helpers/run", ignore=ignored)
        for name in ("notebooks", "scripts", "tools"):
            (self.folder / name).mkdir()
        shutil.copytree(ROOT / "profiles", self.folder / "profiles")
        for name in ("Snakefile", "Makefile", "helpers/__init__.py", "scripts/run_notebook.py",
                     "scripts/parameters.py", "scripts/cluster.py"):  # fmt: skip
            shutil.copy(ROOT / name, self.folder / name)
        (self.folder / "scripts" / "train.py").write_text(TRAIN)
        for name in ("fail.txt", "wait.txt", "started.txt", "trained.txt"):
            (self.folder / name).write_text("")
        # Snakemake's plugin for SLURM asks `which`, even where it is not used.
        for tool in ("make", "bash", "sh", "which", *programs):
            (self.folder / "tools" / tool).symlink_to(shutil.which(tool))
        for name in names:
            own = '\nWORDS = "a"' if name == "05_failures" else ""
            cells = [new_code_cell(f'PROFILE = "auto"\nMODEL = "auto"{own}'),
                     new_code_cell(f"NAME = {name!r}\n{BODY}")]  # fmt: skip
            cells[0].metadata["tags"] = ["parameters"]
            book = nbformat.v4.new_notebook(cells=cells)
            book.metadata["kernelspec"] = {
                "name": "python3",
                "language": "python",
                "display_name": "",
            }
            nbformat.write(book, self.folder / "notebooks" / f"{name}.ipynb")

    def start(self, *arguments):
        return subprocess.Popen(
            ["make", "run", f"PYTHON={sys.executable}", "CORES=2", *arguments],
            cwd=self.folder, env=self.env, text=True, start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def __call__(self, *arguments):
        """Call ``make run``, and return its status and what it printed."""
        process = self.start(*arguments)
        told = process.communicate(timeout=300)[0]
        return process.returncode, told

    def started(self):
        return (self.folder / "started.txt").read_text().splitlines()

    def trained(self):
        return (self.folder / "trained.txt").read_text().splitlines()


@pytest.fixture
def project(tmp_path):
    """A project in which nothing was run."""
    pytest.importorskip("snakemake")
    project = Project(tmp_path / "project")
    project.prepare()
    return project


@pytest.fixture(scope="module")
def run_once(tmp_path_factory):
    pytest.importorskip("snakemake")
    project = Project(tmp_path_factory.mktemp("finished") / "project")
    project.prepare()
    status, told = project()
    assert status == 0, told
    return project


@pytest.fixture
def finished(run_once, tmp_path):
    """A project in which everything was run at profile quick."""
    shutil.copytree(run_once.folder, tmp_path / "project", symlinks=True)
    return Project(tmp_path / "project")


def made(project, run):
    """Return the notebooks that a run has executed, and those with results."""
    folders = (project.folder / "build" / run / "notebooks", project.folder / "figures" / run)
    return ["".join(sorted(p.stem[:2] for p in f.rglob("[0-9]*[!d].*") if ".failed" not in p.name))
            for f in folders]  # fmt: skip


def test_a_run_makes_everything_once_and_then_nothing(finished):
    assert made(finished, "quick") == ["01020511"] * 2
    started, trained = finished.started(), finished.trained()
    assert started[0].startswith("01_train quick "), "what trains must come first"
    assert sorted(started) == [
        f"{n} quick 'auto' {repr('a') if n[:2] == '05' else None}" for n in SMALL
    ]
    networks = ["classifier", "shapes_lab", "shapes_heart"]
    assert sorted(line.split()[0] for line in trained) == sorted(networks)
    assert trained[0].startswith("classifier"), "a laboratory network may be the same one"
    status, told = finished("PARAMS=")
    assert status == 0, told
    assert "Nothing to be done" in told
    assert (finished.started(), finished.trained()) == (started, trained)


def test_a_run_with_other_parameters_is_one_of_its_own(finished):
    words = """it's "a" {b} $c: #d%20"""
    line = "MODEL=resnet20 WORDS=" + shlex.quote(words)
    status, told = finished("PARAMS=" + line.replace("$", "$$"))
    assert status == 0, told
    run = profiles.run_name("quick", {"MODEL": "resnet20", "WORDS": words})
    assert made(finished, run) == ["01020511"] * 2
    assert sorted(finished.started()[4:]) == [
        f"{n} {run} 'resnet20' {words if n[:2] == '05' else None!r}" for n in SMALL
    ]
    assert len(finished.trained()) == 6, "each network once in each run"
    assert all(f" {run} --profile quick -p MODEL resnet20" in t for t in finished.trained()[3:])
    result = finished.folder / "figures" / "{}" / "results" / "01_train.json"
    assert Path(str(result).format("quick")).read_text() == '"auto"'
    assert Path(str(result).format(run)).read_text() == '"resnet20"'


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("PARAMS=MODLE=resnet20", ["'MODLE'", "did you mean MODEL"]),
        ("PARAMS=MODEL", ["'MODEL'", "NAME=value"]),
        ("PROFILE=quik", ["'quik'", "did you mean quick"]),
    ],
    ids=["parameter", "no value", "profile"],
)
def test_what_no_notebook_knows_is_refused_before_anything_starts(project, argument, words):
    status, told = project(argument)
    assert status != 0
    assert all(word in told for word in words), told
    assert "Traceback" not in told
    assert project.started() == []


def test_a_notebook_that_fails_does_not_stop_the_others_and_is_named_at_the_end(project):
    (project.folder / "fail.txt").write_text("02_filters 11_text")
    status, told = project()
    assert status != 0
    assert made(project, "quick") == ["0105"] * 2
    end = told[told.index("2 failed:") :].splitlines()
    for line, name in zip(end[1:3], ("02_filters", "11_text"), strict=True):
        assert line.startswith(f"  {name}.ipynb failed in cell 2: ValueError: broken (see "), end

    (project.folder / "fail.txt").write_text("")
    status, told = project()
    assert status == 0, told
    assert made(project, "quick") == ["01020511"] * 2
    assert [line[:2] for line in project.started()].count("05") == 1
    assert not list((project.folder / "build").rglob("*.failed.*"))


def test_a_run_that_was_killed_goes_on_where_it_was(project):
    (project.folder / "wait.txt").write_text("02_filters 05_failures")
    process = project.start()
    try:
        end = time.monotonic() + 120
        while sum(line[:2] in ("02", "05") for line in project.started()) < 2:
            assert process.poll() is None
            assert time.monotonic() < end
            time.sleep(0.1)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    (project.folder / "wait.txt").write_text("")  # the kernels, in sessions of their own, end too
    before, trained = project.started(), project.trained()
    assert made(project, "quick")[0] in ("01", "0111")
    status, told = project()
    assert status == 0, told
    assert made(project, "quick") == ["01020511"] * 2
    again = [line[:2] for line in project.started()[len(before) :]]
    assert {"02", "05"} <= set(again) <= {"02", "05", "11"}, "what was done must not run again"
    assert project.trained() == trained


def test_code_that_changed_runs_again_and_words_and_looks_do_not(finished):
    def changed(name, *, by):
        path = finished.folder / name
        path.write_text(path.read_text() + by)
        before = len(finished.started())
        status, told = finished()
        assert status == 0, told
        return sorted(line[:2] for line in finished.started()[before:])

    assert changed("helpers/run/look_inside.mplstyle", by="# words\n") == []
    assert changed("notebooks/11_text.ipynb", by="\n") == ["11"]
    assert changed("helpers/run/profiles.toml", by="# words\n") == ["01", "02", "05", "11"]


def plan(folder, *config, env):
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "-n", "-p", "--cores", "2", "--config", *config],
        cwd=folder, env=env | {"PYTHONPATH": str(folder)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_one_job_is_planned_for_each_notebook_of_the_course(tmp_path):
    pytest.importorskip("snakemake")
    for name in ("notebooks", "helpers", "scripts", "report"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, tmp_path / name, ignore=ignored)
    shutil.copy(ROOT / "Snakefile", tmp_path)
    jobs = re.findall(
        r"run_notebook\.py notebooks/(\w+)\.ipynb (\S+) --run (\w+) --profile (\w+)",
        plan(tmp_path, "profile=laptop", env=dict(os.environ)),
    )
    assert sorted(jobs) == [
        (n, f"build/laptop/notebooks/{n}.ipynb", "laptop", "laptop") for n in NAMES
    ]


def test_jobs_that_may_use_a_graphics_card_say_so(project):
    assert "gpu=1" not in plan(project.folder, "profile=quick", env=project.env)
    card = project.folder / "tools" / "nvidia-smi"
    card.write_text("#!/bin/sh\n")
    card.chmod(0o755)
    text = plan(project.folder, "profile=quick", env=project.env)
    assert text.count("gpu=1") == len(SMALL) + 3


@pytest.mark.parametrize(
    ("python", "first"), [("python3", []), ("env/bin/python", ["env/bin"])], ids=["name", "path"]
)
def test_the_checkout_itself_is_not_where_programs_are_looked_for(project, python, first):
    show = "show:;@echo $$PATH"
    done = subprocess.run(
        ["make", f"--eval={show}", "show", f"PYTHON={python}"],
        cwd=project.folder, env=project.env, capture_output=True, text=True, check=True,
    )  # fmt: skip
    path = done.stdout.strip().split(os.pathsep)
    assert str(project.folder) not in path
    own = [str(project.folder / folder) for folder in first]
    assert path == own + project.env["PATH"].split(os.pathsep)


def test_each_notebook_waits_for_the_networks_that_it_loads():
    table = re.search(r"LABORATORY = (\{.*?\n\})", (ROOT / "Snakefile").read_text(), re.DOTALL)[1]
    waits = ast.literal_eval(table)
    for name in NAMES:
        cells = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", 4).cells
        code = "\n".join(cell.source for cell in cells if cell.cell_type == "code")
        used = set(re.findall(r"laboratory\.trained\(\s*\"(\w+)\"", code))
        if re.search(r"trained_classifier\((lab\b|profiles\.shapes_lab\()", code):
            used.add("shapes_lab")
        assert used == set(waits.get(name[:2], [])), name


# ---- networks ----------------------------------------------------------------------------------


@pytest.fixture
def train(monkeypatch, tmp_path, tiny_profile):
    """Return a function that calls scripts/train.py with a training that only notes itself."""
    spec = importlib.util.spec_from_file_location("train", ROOT / "scripts" / "train.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    classifier = training.untrained(tiny_profile)[0]
    noted = []

    def laboratory(name, *, train):
        noted.append((name, train))
        return classifier, None

    def of_profile(profile):
        noted.append((profile.name, profile.dataset, profile.model))
        return classifier

    monkeypatch.setattr(module.laboratory, "trained", laboratory)
    monkeypatch.setattr(module.training, "trained_classifier", of_profile)
    output = tmp_path / "networks" / "out.pt"

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["train.py", arguments[0], str(output), *arguments[1:]])
        return module.main(), noted, output

    return call


@pytest.mark.parametrize(
    ("arguments", "noted"),
    [
        (["shapes_vit", "--profile", "quick"], ("shapes_vit", False)),
        (["shapes_heart", "--profile", "laptop", "-p", "TRAIN", "True"], ("shapes_heart", True)),
        (["classifier", "--profile", "laptop"], ("laptop", "cifar10", "resnet56")),
        (
            ["classifier", "--profile", "quick", "-p", "MODEL", "resnet20", "-p", "WORDS", "a b"],
            ("quick", "shapes", "resnet20"),
        ),
    ],
    ids=["shipped", "trained here", "of the profile", "with parameters"],
)
def test_a_network_is_trained_as_the_run_says_and_its_weights_are_written(train, arguments, noted):
    status, calls, output = train(*arguments)
    assert status == 0
    assert calls == [noted]
    assert torch.load(output, weights_only=True).keys()
    assert [path.name for path in output.parent.iterdir()] == ["out.pt"]


def test_a_network_that_nobody_knows_is_one_line(train, capsys):
    status, calls, output = train("shapes_vitt")
    assert (status, calls) == (1, [])
    line = capsys.readouterr().err
    assert "'shapes_vitt'" in line
    assert "did you mean shapes_vit" in line
    told = output.with_suffix(".failed.txt").read_text()
    assert told == f"network shapes_vitt failed: {line}"
