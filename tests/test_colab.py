"""Colab, simulated: the setup cell installs the workbook and leaves what was there untouched.

A fresh environment holds what Colab has before the first cell: torch, torchvision, numpy,
matplotlib, scikit-image, ipywidgets and a kernel, and nothing of the workbook's other needs. The
cell clones from a local repository at the tag, and notebooks run from that state alone.

``WORKBOOK_COLAB=all`` installs the very versions of ``colab.txt`` instead of borrowing those at
hand (5 GB, minutes), and runs every notebook at the size that students run it.
"""

import json
import os
import re
import shutil
import subprocess
import tomllib
import venv
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import nbformat
import pytest
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpecManager
from nbclient import NotebookClient
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
REPOSITORY, TAG = PROJECT["project"]["urls"]["Repository"], PROJECT["tool"]["look-inside"]["tag"]
VERSIONS = Path(__file__).with_name("colab.txt")
PREINSTALLED = ("torch", "torchvision", "numpy", "matplotlib", "scikit-image", "ipywidgets")
OURS = {canonicalize_name(Requirement(text).name) for text in PROJECT["project"]["dependencies"]}
ALL = os.environ.get("WORKBOOK_COLAB") == "all"
# Last ones first: none may need what an earlier one did. A short one stands for all in daily tests.
SOME = [path for path in NOTEBOOKS if ALL or path.stem.startswith("03")][::-1]

pytestmark = pytest.mark.slow


def run(*command, **options):
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, check=False, **options
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


# ---- what is there before the first cell -------------------------------------------------------


@dataclass
class Machine:
    """A fresh environment, and the variables that programs see in it."""

    folder: Path
    variables: dict[str, str]

    @property
    def python(self):
        return self.folder / "env" / "bin" / "python"

    @property
    def packages(self):
        return next((self.folder / "env" / "lib").glob("python*/site-packages"))

    def versions(self):
        """Return name -> version of all that pip sees."""
        listed = run(self.python, "-m", "pip", "list", "--format=json", env=self.variables)
        return {canonicalize_name(each["name"]): each["version"] for each in json.loads(listed)}


def fresh(folder):
    """Return a machine with Python and pip, and skip where pip reaches no package index."""
    venv.create(folder / "env", with_pip=True)
    kept = {name: v for name, v in os.environ.items() if not name.startswith("WORKBOOK_")}
    path = f"{folder / 'env' / 'bin'}{os.pathsep}{os.environ['PATH']}"
    machine = Machine(folder, kept | {"PATH": path, "WORKBOOK_PROFILE": "quick"})
    machine.variables |= {"PYTHONNOUSERSITE": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    asked = [machine.python, "-m", "pip", "download", "-q", "--no-deps", "-d", folder, "setuptools"]
    if subprocess.run(asked, env=machine.variables, capture_output=True, check=False).returncode:
        pytest.skip("pip reaches no package index")
    return machine


def with_needs(names):
    """Return the installed distributions of these names, and of all that they need."""
    wanted, found = [(name, "") for name in names], {}
    seen = set()
    while wanted:
        name, extra = wanted.pop()
        if (key := (canonicalize_name(name), extra)) in seen:
            continue
        seen.add(key)
        found[key[0]] = distribution = metadata.distribution(name)
        for need in map(Requirement, distribution.requires or ()):
            if need.marker is None or need.marker.evaluate({"extra": extra}):
                wanted += [(need.name, wanted_extra) for wanted_extra in ("", *need.extras)]
    return found.values()


def borrow(distributions, packages):
    """Link the files of installed distributions into another environment, as pip would lay them.

    That takes a second, where installing takes minutes and 5 GB. pip replaces a link as it would
    replace a file, and leaves alone what the link leads to.
    """
    for distribution in distributions:
        for file in distribution.files:
            source = Path(distribution.locate_file(file))
            if ".." not in file.parts and source.exists():
                (packages / file).parent.mkdir(parents=True, exist_ok=True)
                (packages / file).symlink_to(source)


@pytest.fixture(scope="session")
def colab(tmp_path_factory):
    """A machine as Colab hands it out, with a stand-in for the module google.colab."""
    machine = fresh(tmp_path_factory.mktemp("colab"))
    if ALL:
        run(machine.python, "-m", "pip", "install", "-q", "-r", VERSIONS, env=machine.variables)
    else:
        run(machine.python, "-m", "pip", "uninstall", "-q", "-y", "setuptools")  # older than ours
        borrow(with_needs([*PREINSTALLED, "ipykernel"]), machine.packages)
    (machine.packages / "google" / "colab").mkdir(parents=True)
    (machine.packages / "google" / "colab" / "__init__.py").touch()
    (machine.packages / "sitecustomize.py").write_text("import google.colab\n")
    return machine


@pytest.fixture(scope="session")
def before(colab):
    """The versions before any cell was run."""
    found = colab.versions()
    assert set(PREINSTALLED) <= set(found)
    assert {"grad-cam", "lime", "captum", "papermill"} <= OURS - set(found), "must be missing yet"
    return found


@pytest.fixture(scope="session")
def repository(tmp_path_factory):
    """This checkout as a bare repository with the tag, for git to find in place of the real one."""
    bare = tmp_path_factory.mktemp("git") / "look-inside.git"
    git = ["git", f"--git-dir={bare}", f"--work-tree={ROOT}", "-c", "core.bare=false",
           "-c", "user.name=nobody", "-c", "user.email=nobody@example.org"]  # fmt: skip
    run("git", "init", "-q", "--bare", bare)
    run(*git, "add", "--all", ".", cwd=ROOT)
    run(*git, "commit", "-q", "-m", "The tag", cwd=ROOT)
    run(*git, "tag", TAG)
    return bare


# ---- running cells there -----------------------------------------------------------------------


@pytest.fixture
def play(colab, repository, tmp_path):
    """Return a function that runs a notebook, and a folder that stands for /content."""
    (content := tmp_path / "content").mkdir()
    spec = {"argv": [str(colab.python), "-m", "ipykernel_launcher", "-f", "{connection_file}"],
            "display_name": "Colab", "language": "python"}  # fmt: skip
    (tmp_path / "kernels" / "colab").mkdir(parents=True)
    (tmp_path / "kernels" / "colab" / "kernel.json").write_text(json.dumps(spec))
    variables = colab.variables | {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.file://{repository}.insteadOf",
        "GIT_CONFIG_VALUE_0": REPOSITORY,
    }

    def execute(book):
        (setup,) = (c for c in book.cells if "setup" in c.metadata.get("tags", []))
        assert setup.source.count("/content") == 1
        setup.source = setup.source.replace("/content", str(content))
        specs = KernelSpecManager(kernel_dirs=[str(tmp_path / "kernels")])
        kernel = AsyncKernelManager(kernel_name="colab", kernel_spec_manager=specs)
        client = NotebookClient(book, km=kernel, timeout=1800)
        client.execute(cwd=str(tmp_path), env=variables)
        return "".join(o.get("text", "") for o in setup.outputs), book.cells[-1].get("outputs")

    execute.content = content
    return execute


PROBE = """
import importlib.metadata, json, os, sys, helpers, torch
print(json.dumps({"helpers": helpers.__file__, "cwd": os.getcwd(), "torch": torch.__file__}))
"""


def setup_and_probe():
    book = nbformat.read(NOTEBOOKS[0], 4)
    book.cells = [c for c in book.cells if "setup" in c.metadata.get("tags", [])]
    book.cells.append(nbformat.v4.new_code_cell(PROBE))
    return book


def test_the_setup_cell_installs_the_workbook_and_keeps_what_was_there(colab, before, play):
    for time in ("the first", "after a restart"):
        said, outputs = play(setup_and_probe())
        assert not re.search("error|fatal|conflict|switching to", said, re.IGNORECASE), (
            f"{time}: {said}"
        )
        seen = json.loads(outputs[0]["text"])
        home = play.content / "look-inside"
        assert seen["helpers"] == f"{home / 'notebooks'}/../helpers/__init__.py", time
        assert seen["cwd"] == str(home / "notebooks")
        assert Path(seen["torch"]).is_relative_to(colab.packages)
    after = colab.versions()
    assert {name: after[name] for name in before} == before
    assert set(after) >= OURS


@pytest.mark.parametrize("path", SOME, ids=lambda path: path.stem)
def test_a_notebook_runs_on_its_own(colab, before, play, path):
    play(nbformat.read(path, 4))
    figures = (play.content / "look-inside" / "figures" / "quick").glob("*.png")
    assert {figure.name[:2] for figure in figures} == {path.stem[:2]}
    after = colab.versions()
    assert {name: after[name] for name in before} == before


def test_pip_would_replace_nothing_that_colab_has(tmp_path):
    """An environment that knows only names and versions is enough to ask pip what it would do."""
    machine = fresh(tmp_path)
    there = [Requirement(line) for line in VERSIONS.read_text().splitlines() if line[0] != "#"]
    for package in there:
        version = str(package.specifier).removeprefix("==")
        folder = machine.packages / f"{package.name.replace('-', '_')}-{version}.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {package.name}\nVersion: {version}\n"
        )
    assert set(machine.versions()) >= {canonicalize_name(package.name) for package in there}
    shutil.copytree(ROOT / "helpers", tmp_path / "project" / "helpers")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path / "project" / name)
    told = run(machine.python, "-m", "pip", "install", "--dry-run", "-e", tmp_path / "project",
               env=machine.variables)  # fmt: skip
    (would,) = re.findall(r"^Would install (.+)$", told, re.MULTILINE)
    new = {canonicalize_name(each.rpartition("-")[0]) for each in would.split()}
    assert {"look-inside", "lime", "grad-cam"} <= new
    assert new & {canonicalize_name(package.name) for package in there} == set(), would
