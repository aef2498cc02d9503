"""The house: seven rooms, imports downwards, its drawing, and its page."""

import ast
import re
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from torch import Tensor

from helpers.explain import METHODS, Method, explain
from helpers.nets import models
from helpers.run.errors import WorkbookError

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "house.md").read_text()
MODULES = sorted((ROOT / "helpers").rglob("*.py"))
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))


@pytest.fixture(scope="module")
def house():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "scripts")
        import draw_house

        yield draw_house


# ---- the rooms ---------------------------------------------------------------------------------


def test_there_are_seven_rooms_and_nothing_beside_them(house):
    inside = {path.name for path in (ROOT / "helpers").iterdir() if path.name != "__pycache__"}
    assert inside == {"__init__.py", *house.ROOMS}


def test_imports_run_downwards(house):
    imports = house.read()["imports"]
    assert imports["course > nets"] and imports["data > run"]
    assert not any(count.endswith("> course") for count in imports)


def test_every_room_says_what_it_is_for(house):
    for room, told in house.read()["rooms"].items():
        assert re.fullmatch(r"[A-Z].*[^.][.?]", told["sentence"]), room
        assert f"**[{room}](../helpers/{room}/)**" in PAGE
    assert all(room in ast.get_docstring(ast.parse((ROOT / "helpers/__init__.py").read_text()))
               for room in house.ROOMS)  # fmt: skip


def private_uses(source):
    """Return the private names of other modules of ``helpers`` that a module uses."""
    found, modules = [], set()
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("helpers"):
            found += [alias.name for alias in node.names if alias.name.startswith("_")]
            modules |= {alias.asname or alias.name for alias in node.names}
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)):
            continue
        if node.value.id in modules and re.match(r"_(?!_)", node.attr):
            found.append(f"{node.value.id}.{node.attr}")
    return found


def test_nobody_uses_a_neighbours_private_names():
    for path in MODULES:
        assert not private_uses(path.read_text()), path.relative_to(ROOT)


def test_a_private_name_is_noticed():
    assert private_uses("from helpers.run.results import _slug") == ["_slug"]
    assert private_uses("from helpers.run import results\nresults._run") == ["results._run"]
    assert private_uses("from helpers.run import results as r\nr._run\nself._x") == ["r._run"]
    assert not private_uses("from helpers.run import results\nresults.record\nself._x")


def test_no_room_below_the_course_knows_a_notebook():
    for path in set(MODULES) - set((ROOT / "helpers" / "course").rglob("*.py")):
        assert not re.search(r"(?i)\bnotebooks? \d", path.read_text()), path.relative_to(ROOT)


# ---- the drawing -------------------------------------------------------------------------------


def test_the_drawing_shows_the_code_of_today(house):
    assert house.shown() == house.read(), "draw it again: python scripts/draw_house.py"


def test_the_same_house_gives_the_same_bytes(house, tmp_path):
    for name in ("a.svg", "b.svg"):
        house.save(house.read(), tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert house.shown(tmp_path / "a.svg") == house.read()


def test_nothing_in_the_drawing_is_small_or_covered(house):
    figure = house.draw(house.read())
    texts = figure.axes[0].texts
    assert min(text.get_size() for text in texts) >= 7
    extents = [text.get_window_extent(FigureCanvasAgg(figure).get_renderer()) for text in texts]
    for one, text in zip(extents, texts, strict=True):
        assert all(figure.bbox.contains(*corner) for corner in one.corners()), text.get_text()
    for (one, text), (other, below) in combinations(zip(extents, texts, strict=True), 2):
        assert not one.overlaps(other), (text.get_text(), below.get_text())


@pytest.fixture
def small(house, tmp_path):
    """Return a package with one file in each room."""
    for room in house.ROOMS:
        (tmp_path / "helpers" / room).mkdir(parents=True)
        (tmp_path / "helpers" / room / "__init__.py").write_text(
            f'"""The {room} room\n\nMore."""\n'
        )
        (tmp_path / "helpers" / room / "thing.py").write_text("")
    (tmp_path / "helpers" / "__init__.py").write_text("")
    return tmp_path / "helpers"


def test_every_kind_of_import_is_counted(house, small):
    (small / "course" / "thing.py").write_text(
        "import helpers.nets.thing\nfrom helpers.data import thing, other\n"
        "def f():\n    from helpers.run import thing\n    from helpers.run.thing import x\n"
    )
    (small / "nets" / "thing.py").write_text("import os\nimport helpers.nets\n")
    told = house.read(small)
    assert told["imports"] == {"course > data": 2, "course > nets": 1, "course > run": 1}
    assert told["rooms"]["nets"] == {"sentence": "The nets room", "files": ["thing"]}


@pytest.mark.parametrize(("file", "text", "words"), [
    ("run/thing.py", "from helpers.course import thing", "helpers.run.thing imports upwards"),
    ("thing.py", "", "helpers.thing lies in no room"),
    ("attic/thing.py", "", "helpers.attic.thing lies in no room"),
])  # fmt: skip
def test_a_fault_of_the_house_is_one_line(house, small, one_line, file, text, words):
    (small / file).parent.mkdir(exist_ok=True)
    (small / file).write_text(text)
    with pytest.raises(WorkbookError) as error:
        house.read(small)
    one_line(error, words)


# ---- the page ----------------------------------------------------------------------------------


def section(title):
    """Return a section of the page, and the Python in it."""
    text = PAGE.split(f"\n### {title}\n")[1].split("\n### ")[0]
    return text, re.findall(r"```python\n(.*?)```", text, re.DOTALL)


def test_a_method_is_added_as_the_page_says(monkeypatch):
    function, entry = section("A method")[1]
    gradients = {"Classifier": models.Classifier, "Tensor": Tensor}
    exec(function, gradients)
    method = eval(entry, {"Method": Method, "gradients": SimpleNamespace(**gradients)})
    assert method.name not in METHODS
    monkeypatch.setitem(METHODS, method.name, method)
    classifier = models.build("shapes_net", tuple("abc"), 64)
    images = torch.rand(3, 3, 64, 64, generator=torch.manual_seed(0))
    heat = explain(method.name, classifier, images, torch.tensor([0, 1, 2]))
    assert heat.shape == (3, 64, 64)
    assert heat.min() >= 0 and heat.flatten(1).amax(dim=1).allclose(torch.ones(3))
    other = explain(method.name, classifier, images, torch.tensor([1, 1, 2]))
    assert not heat[0].allclose(other[0]) and heat[1:].equal(other[1:])


def test_names_on_the_page_exist():
    for path in re.findall(r"`((?:helpers|scripts|docs|tests|report)/[\w./]+)`", PAGE):
        assert (ROOT / path).exists(), path
    for link in re.findall(r"\]\(([^)]+)\)", PAGE):
        assert (ROOT / "docs" / link).exists(), link
    places = {
        "A data set": ("data/sets.py", "NAMES", "case", "load"),
        "A network": ("nets/architectures.py", "ARCHITECTURES"),
        "A measure": ("measure/complexity.py", "MEASURES"),
        "An exercise": ("course/checks/answers.py", "exercise"),
        "A profile setting": ("run/profiles.toml", "[base]", "[quick]", "[full]"),
    }
    for title, (path, *names) in places.items():
        text, source = section(title)[0], (ROOT / "helpers" / path).read_text()
        for name in names:
            assert name in text and name in source, (title, name)


# ---- recording ---------------------------------------------------------------------------------


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_cells_that_record_are_folded_and_do_nothing_else(path):
    for cell in nbformat.read(path, 4).cells:
        if "record" not in cell.metadata.get("tags", []):
            continue
        assert "hide-input" in cell.metadata.tags
        assert cell.metadata.jupyter.source_hidden and cell.metadata.cellView == "form"
        assert "results.record" in cell.source and "print(" not in cell.source
        shows = isinstance(ast.parse(cell.source).body[-1], ast.Expr)
        assert not shows or cell.source.endswith(";")


def test_the_site_folds_what_records(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "scripts")
    import build_site

    path = ROOT / "notebooks" / "04_gradcam_correct_incorrect.ipynb"
    cells = build_site.prepared(nbformat.read(path, 4), path, {}).cells
    folded = [cell for cell in cells if "record" in cell.metadata.get("tags", [])]
    assert folded
    for cell in folded:
        assert cell.metadata.tags.count("hide-input") == 1
        assert cell.metadata.mystnb.code_prompt_show == "Show what is recorded"
