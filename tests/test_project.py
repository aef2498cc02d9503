"""The project: two lists of dependencies agree, links lead somewhere, files stay small."""

import ast
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml

from helpers.run import profiles
from helpers.run.errors import WorkbookError

ROOT = Path(__file__).resolve().parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PAGES = [ROOT / "README.md", ROOT / "data" / "README.md"]
CONDA_NAMES = {"pytorch": "torch", "matplotlib-base": "matplotlib"}

# ---- dependencies ------------------------------------------------------------------------------


def requirement(text):
    """Split "Name[extra]>=1.2" into the normalised name and its bounds."""
    name, bounds = re.fullmatch(r"([\w.-]+)(?:\[[\w,]+\])?\s*(.*)", text.strip()).groups()
    name = re.sub(r"[-_.]+", "-", name).lower()
    return CONDA_NAMES.get(name, name), "".join(bounds.split()).rstrip(".*")


def test_conda_and_pip_install_the_same():
    project = PYPROJECT["project"]
    extras = [r for extra in project["optional-dependencies"].values() for r in extra]
    wanted = dict(map(requirement, project["dependencies"] + extras))
    wanted["python"] = project["requires-python"]
    listed = []
    for entry in yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]:
        listed += entry["pip"] if isinstance(entry, dict) else [entry]
    found = dict(requirement(entry) for entry in listed if not entry.startswith("-"))
    found.pop("pip", None)
    found.pop("look-inside", None)
    assert found == wanted


def test_there_are_no_upper_bounds():
    for text in PYPROJECT["project"]["dependencies"]:
        assert not re.search(r"<|==|~=", text), text


def imported(path):
    """Return the top-level packages that a module imports."""
    nodes = list(ast.walk(ast.parse(path.read_text())))
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module for node in nodes if isinstance(node, ast.ImportFrom)]
    return {name.partition(".")[0] for name in names}


def test_everything_that_helpers_import_is_a_dependency():
    distributions = {
        "PIL": "pillow", "pytorch-grad-cam": "grad-cam", "skimage": "scikit-image",
        "sklearn": "scikit-learn", "open-clip": "open-clip-torch", "IPython": "ipython",
    }  # fmt: skip
    wanted = {requirement(text)[0] for text in PYPROJECT["project"]["dependencies"]}
    own = {path.stem for path in (ROOT / "scripts").glob("*.py")}
    for path in [*(ROOT / "helpers").rglob("*.py"), *(ROOT / "scripts").glob("*.py")]:
        for name in imported(path):
            if name in sys.stdlib_module_names or name in ("helpers", *own):
                continue
            name = name.replace("_", "-")
            assert distributions.get(name, name) in wanted, f"{path.name} imports {name}"


# ---- links -------------------------------------------------------------------------------------


def run(*command):
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_all_badges_are_up_to_date():
    done = run(sys.executable, "scripts/badges.py", "--check")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def badges(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "scripts")
    import badges

    return badges


def test_a_badge_of_another_address_is_noticed(badges):
    slug = badges.REPOSITORY.removeprefix("https://github.com/")
    link = "https://colab.research.google.com/github/{}/blob/{}/notebooks/01_x.ipynb"
    assert badges.stamp(link.format("me/fork", "main")) == link.format(slug, badges.TAG)
    clone = "git clone -q --depth 1 --branch {} {}"
    stale = clone.format("v0.0", "https://github.com/me/look-inside")
    assert badges.stamp(stale) == clone.format(badges.TAG, badges.REPOSITORY)
    other = "https://github.com/jacobgil/pytorch-grad-cam"
    assert badges.stamp(other) == other


@pytest.mark.parametrize(
    ("remote", "address"),
    [
        ("https://github.com/me/xai-course.git", "https://github.com/me/xai-course"),
        ("https://me:secret@github.com/me/look-inside", "https://github.com/me/look-inside"),
        ("git@github.com:me/look-inside.git", "https://github.com/me/look-inside"),
        ("ssh://git@github.com/me/look-inside", "https://github.com/me/look-inside"),
        ("git@gitlab.com:me/look-inside.git", ""),
        ("/somewhere/on/disk", ""),
        (None, ""),
    ],
)
def test_the_address_is_that_of_the_remote_on_github(badges, tmp_path, remote, address):
    git = ("git", "-C", str(tmp_path))
    run("git", "init", "-q", str(tmp_path))
    if remote:
        run(*git, "remote", "add", "origin", remote)
    assert badges.origin(tmp_path) == address


def code_hash(notebook):
    cells = [cell for cell in json.loads(notebook)["cells"] if cell["cell_type"] == "code"]
    code = "\n\n".join("".join(cell["source"]) for cell in cells)
    return hashlib.sha256(code.encode()).hexdigest()[:16]


def test_a_fork_gets_its_own_badges_and_can_go_back(tmp_path):
    name = "xai-course"
    for file in ("README.md", "pyproject.toml"):
        shutil.copy(ROOT / file, tmp_path)
    for folder in ("helpers", "scripts"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    (tmp_path / "notebooks").mkdir()
    book, text = tmp_path / "notebooks" / NOTEBOOKS[2].name, NOTEBOOKS[2].read_text()
    book.write_text(re.sub(r'(?<="code_hash": ")\w+', code_hash(text), text))
    files = [book, tmp_path / "README.md", tmp_path / "pyproject.toml"]
    before = [path.read_text() for path in files]
    git = ("git", "-C", str(tmp_path))
    run("git", "init", "-q", str(tmp_path))
    run(*git, "remote", "add", "origin", f"git@github.com:me/{name}.git")

    def stamp():
        script, paths = tmp_path / "scripts" / "badges.py", {"PYTHONPATH": str(tmp_path)}
        done = subprocess.run([sys.executable, script], env=os.environ | paths, cwd=tmp_path,
                              capture_output=True, text=True, check=False)  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert f"badges lead to https://github.com/me/{name}, tag v" in stamp()
    old = PYPROJECT["project"]["urls"]["Repository"].removeprefix("https://github.com/")
    assert not any(old in path.read_text() for path in files)
    text = files[0].read_text()
    assert f"colab.research.google.com/github/me/{name}/blob/" in text
    assert f"https://github.com/me/{name} look-inside\\n" in text, "the setup cell goes on there"
    assert f'"code_hash": "{code_hash(text)}"' in text, "its outputs are still those of its code"
    assert "stamped" not in stamp()
    run(*git, "remote", "set-url", "origin", f"https://github.com/{old}")
    stamp()
    assert [path.read_text() for path in files] == before


@pytest.mark.parametrize("page", PAGES, ids=["README", "data"])
def test_every_relative_link_leads_to_a_file(page):
    text = page.read_text()
    links = re.findall(r"\]\(([^)\s]+)\)|(?:src|href)=\"([^\"]+)\"", text)
    for link in (a or b for a, b in links):
        if not re.match(r"https?:|#|mailto:", link):
            assert (page.parent / link.partition("#")[0]).exists(), link


def test_the_readme_lists_every_notebook_with_a_badge():
    text = (ROOT / "README.md").read_text()
    badges = re.findall(r"colab\.research\.google\.com/github/[^)\s]+/notebooks/([\w.]+)\)", text)
    links = re.findall(r"\]\(notebooks/([\w.]+)\)", text)
    names = [path.name for path in NOTEBOOKS]
    assert badges == names
    assert [name for name in links if name in names] == names


def test_commands_of_the_readme_exist():
    text, makefile = (ROOT / "README.md").read_text(), (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
    assert set(re.findall(r"(?:`|^)make ([a-z]+)\b", text, re.MULTILINE)) <= targets
    for path in re.findall(r"\b((?:scripts|helpers)/[\w./]+\.\w+)", text):
        assert (ROOT / path).exists(), path
    for name in re.findall(r"PROFILE=(\w+)", text):
        assert name in profiles.names()


def measured_rows():
    """Yield the cells of the README's benchmark tables, as the committed results give them."""
    results = ROOT / "benchmarks" / "results"
    for r in json.loads((results / "cam_cpu.json").read_text())["results"]:
        yield (
            f"`{r['layer']}` | {r['library_seconds']:.2f} s, {r['library_mib']:.0f} MiB "
            f"| {r['our_seconds']:.2f} s, {r['our_mib']:.0f} MiB | {r['time_ratio']:.1f}x "
            f"| {r['memory_ratio']:.2f}x | {r['largest_difference']:.0e} |"
        )
    for r in json.loads((results / "lime_cpu.json").read_text())["results"]:
        yield (
            f"| {r['side']} | {r['seconds']:.2f} s | {r['times_default']:.2f}x "
            f"| {r['times_best']:.2f}x | {r['peak_mib']:.0f} MiB | {r['largest_difference']:.0e} |"
        )
    (r,) = json.loads((results / "dissection.json").read_text())["results"]
    yield (
        f"{r['seconds']:.2f} s and {r['gib']:.1f} GiB instead of "
        f"{r['seconds_unit_by_unit']:.2f} s and {r['gib_unit_by_unit']:.1f} GiB"
    )


def test_the_benchmarks_of_the_readme_are_those_that_were_measured():
    text = " ".join((ROOT / "README.md").read_text().split())
    for row in measured_rows():
        assert row in text


def test_no_placeholder_is_left():
    for page in PAGES:
        assert not re.search(r"^[A-Z]{4,}$|TODO|FIXME", page.read_text(), re.MULTILINE)


# ---- profiles ----------------------------------------------------------------------------------


def shape(settings):
    return {
        key: shape(vars(value)) if isinstance(value, SimpleNamespace) else type(value).__name__
        for key, value in settings.items()
        if key != "name"
    }


def test_all_profiles_have_the_same_settings():
    quick, *others = (shape(vars(profiles.load(name))) for name in profiles.names())
    assert profiles.names() == ["quick", "laptop", "full"]
    assert all(other == quick for other in others)


def test_an_unknown_profile_offers_the_known_ones(one_line):
    with pytest.raises(WorkbookError) as error:
        profiles.load("quik")
    one_line(error, "'quik'", "did you mean quick", "laptop", "full", "auto")


def test_auto_obeys_the_environment(monkeypatch, one_line):
    monkeypatch.setenv("WORKBOOK_PROFILE", "laptop")
    assert profiles.load().name == "laptop"
    assert profiles.load("quick").name == "quick", "an explicit name always wins"
    monkeypatch.setenv("WORKBOOK_PROFILE", "lap")
    with pytest.raises(WorkbookError) as error:
        profiles.load("auto")
    one_line(error, "'lap'")


@pytest.mark.parametrize(("gpu", "name"), [(True, "full"), (False, "quick")])
def test_auto_without_the_environment_asks_for_a_gpu(monkeypatch, gpu, name):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    assert profiles.load().name == name


def test_parameters_replace_settings_and_auto_keeps_them():
    profile = profiles.load("laptop", dataset="cifar100", model="auto")
    assert profile.dataset == "cifar100"
    assert profile.model == "resnet56"
    assert profiles.load("laptop").dataset == "cifar10", "a change must not last"


def test_an_unknown_setting_is_named(one_line):
    with pytest.raises(WorkbookError) as error:
        profiles.load("quick", datset="shapes")
    one_line(error, "'datset'", "did you mean dataset")


# ---- files -------------------------------------------------------------------------------------


def test_helper_modules_stay_thin():
    for path in (ROOT / "helpers").rglob("*.py"):
        assert len(path.read_text().splitlines()) <= 270, path.name


def test_no_room_of_helpers_is_crowded():
    folders = {path.parent for path in (ROOT / "helpers").rglob("*.py")}
    assert len(folders) > 7
    for folder in folders:
        modules = sorted(path.stem for path in folder.glob("[!_]*.py"))
        assert len(modules) <= 12, f"{folder.name}: {', '.join(modules)}"


def test_no_tracked_file_is_larger_than_3_mb():
    done = run("git", "ls-files", "-z")
    if done.returncode:
        pytest.skip("not a git checkout")
    for name in filter(None, done.stdout.split("\0")):
        if (ROOT / name).exists():
            assert (ROOT / name).stat().st_size <= 3_000_000, name


def test_nothing_that_a_run_makes_is_tracked():
    done = run("git", "ls-files", "build", "data/cache", "data/checkpoints", "report/generated")
    assert done.stdout == ""
