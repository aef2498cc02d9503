"""Profiles say what differs from one base; a run is named after what was changed in it."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import nbformat
import parameters
import pytest

from helpers.run import profiles
from helpers.run.errors import WorkbookError

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def tables(monkeypatch, tmp_path):
    """Replace profiles.toml, and return a function that writes it."""
    path = tmp_path / "profiles.toml"
    monkeypatch.setattr(profiles, "_TOML", path)
    return path.write_text


def test_a_profile_says_in_what_it_differs_all_the_way_down(tables):
    tables(
        """
        [base]
        size = 1
        training = { epochs = 2, seed = 0 }
        [base.lime.cuts]
        slic = { n = 3, sigma = 1 }
        [quick]
        training = { epochs = 4 }
        [quick.lime.cuts]
        slic = { n = 5 }
        [laptop]
        """
    )
    quick, laptop = profiles.load("quick"), profiles.load("laptop")
    assert (quick.size, quick.training.epochs, quick.training.seed) == (1, 4, 0)
    assert quick.lime.cuts == {"slic": {"n": 5, "sigma": 1}}
    assert laptop.training == SimpleNamespace(epochs=2, seed=0), "quick's must not stay"
    assert laptop.lime.cuts == {"slic": {"n": 3, "sigma": 1}}
    assert profiles.names() == ["quick", "laptop"]


def test_a_setting_that_the_base_has_not_is_refused_everywhere(one_line):
    for make in (profiles.shapes_lab, profiles.load):
        with pytest.raises(WorkbookError) as error:
            make(datset="shapes")
        one_line(error, "'datset'", "did you mean dataset")


def test_the_laboratory_is_the_same_in_every_profile_and_knows_no_scale(monkeypatch):
    labs = []
    for name in profiles.names():
        monkeypatch.setenv("WORKBOOK_PROFILE", name)
        labs.append(profiles.shapes_lab())
    assert all(lab == labs[0] for lab in labs)
    assert {"dataset", "model", "start", "size", "images", "training", "segmentations"} <= set(
        vars(labs[0])
    )
    assert labs[0].name == "shapes_lab"
    assert not hasattr(labs[0], "trust"), "that is a scale's"
    heart = profiles.shapes_lab(dataset="shapes:heart")
    assert (heart.dataset, heart.model) == ("shapes:heart", labs[0].model)
    assert profiles.shapes_lab().dataset == "shapes", "a change must not last"


@pytest.mark.parametrize("name", ["base", "shapes_lab"])
def test_what_is_no_scale_is_no_profile(name):
    with pytest.raises(WorkbookError, match=f"unknown profile '{name}'"):
        profiles.load(name)


@pytest.mark.parametrize(
    ("changes", "run"),
    [
        ({}, "quick"),
        ({"model": "auto"}, "quick"),
        ({"model": "shapes_net"}, "quick"),
        ({"model": "resnet20"}, "quick-model-resnet20"),
        ({"model": "resnet20", "dataset": "cifar10"}, "quick-dataset-cifar10-model-resnet20"),
    ],
    ids=["none", "auto", "its own", "one", "two"],
)
def test_a_run_is_named_after_what_differs(monkeypatch, changes, run):
    monkeypatch.delenv("WORKBOOK_RUN", raising=False)
    assert profiles.load("quick", **changes).run == run


def test_runs_whose_values_look_alike_have_different_names():
    values = ["a b", "a-b", "a/b", "a  b", "ä/b", "../b", "x" * 300, "x" * 301]
    names = {profiles.run_name("quick", {"DATASET": value}) for value in values}
    assert len(names) == len(values)
    for name in names:
        assert not set(name) & set(" /\\:'\""), name
        assert len(name) < 80
    assert profiles.run_name("q", {"A": "1-b-2"}) != profiles.run_name("q", {"A": "1", "B": "2"})


def test_profiles_are_read_without_torch():
    code = (
        "import sys; sys.path.append('scripts'); import parameters;"
        "from helpers.run import profiles; profiles.load('quick').run;"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n", "the runner reads them again for every job"


# ---- parameters of notebooks -------------------------------------------------------------------


@pytest.fixture
def notebook(tmp_path):
    cell = nbformat.v4.new_code_cell(
        'PROFILE = "auto"  # @param\nMODEL = "auto"\nTRAIN = False\nIMAGES = 10\nRATE = 0.5'
    )
    cell.metadata["tags"] = ["parameters"]
    path = tmp_path / "01_small.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("A = 1"), cell]), path)
    return path


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("", {}),
        ("MODEL=resnet20", {"MODEL": "resnet20"}),
        ("A=1  B='two words'", {"A": "1", "B": "two words"}),
        ("""A="it's" B=x=y C=""", {"A": "it's", "B": "x=y", "C": ""}),
        (r"A=folder:/my\ photos", {"A": "folder:/my photos"}),
    ],
)
def test_parameters_are_split_as_a_shell_splits_them(text, values):
    assert parameters.read(text) == values


@pytest.mark.parametrize("text", ["MODEL", "MODEL resnet20", "=x", "a-b=c", "A='b"])
def test_a_line_that_is_no_list_of_parameters_is_refused(text, one_line):
    with pytest.raises(WorkbookError) as error:
        parameters.read(text)
    one_line(error, repr(text))


def test_a_notebook_declares_its_parameters_and_takes_them_with_their_type(notebook):
    assert parameters.declared(notebook) == {
        "MODEL": "auto", "TRAIN": False, "IMAGES": 10, "RATE": 0.5,
    }  # fmt: skip
    given = {"TRAIN": "true", "IMAGES": "7", "RATE": "1", "MODEL": "7", "OTHER": "x"}
    values = parameters.taken(given, notebook)
    assert values == {"MODEL": "7", "TRAIN": True, "IMAGES": 7, "RATE": 1.0}
    assert [type(v) for v in values.values()] == [str, bool, int, float]


@pytest.mark.parametrize(("name", "text"), [("TRAIN", "maybe"), ("IMAGES", "many")])
def test_a_value_of_another_type_is_refused(notebook, one_line, name, text):
    with pytest.raises(WorkbookError) as error:
        parameters.taken({name: text}, notebook)
    one_line(error, name, repr(text))


def test_every_notebook_declares_its_parameters_as_plain_values():
    for path in sorted((ROOT / "notebooks").glob("[0-9]*.ipynb")):
        assert {"DATASET", "MODEL", "START"} <= set(parameters.declared(path)), path.name
