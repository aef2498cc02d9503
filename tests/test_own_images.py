"""Notebooks 1 to 5 on images of one's own: few or many classes, networks without right or wrong."""

import re
import shlex
import subprocess
import sys

import parameters
import pytest
from own_images import CLASSES, NETWORKS, ROOT, SLIP, paint, recorded, run

from helpers import data
from helpers.data import folders
from helpers.nets import training
from helpers.run import profiles

# Every notebook with every number of classes and with every network, all nine pairs in turn.
COVERED = [
    (notebook, classes, NETWORKS[(i + int(notebook)) % 3])
    for notebook in ("01", "02", "03", "04", "05")
    for i, classes in enumerate(CLASSES)
]
# What a notebook says where there is nothing to show.
SAYS = {
    ("01", "perfect"): ["equally hard", "it confuses no pair", "the lower row is empty"],
    ("01", "wrong"): ["The most frequent pairs", "Of all"],
    ("03", "wrong"): ["No test image is classified correctly"],
    ("04", "perfect"): ["No prediction is wrong", "there is no confidence to compare"],
    ("04", "wrong"): ["No prediction is right", "there is no map to compare"],
    ("05", "perfect"): ["there is no case to draw", "no two maps", "no heat to hide"],
}


def assert_sound(text: str):
    """Fail where a reader would see a number that is none, or an exercise was not checked."""
    assert not re.search(r"\b(nan|inf)\b", text)
    assert text.count("correct.") == text.count("Exercise ") > 0


@pytest.mark.parametrize(("notebook", "classes", "network"), COVERED)
def test_a_notebook_runs_on_own_images(notebook, classes, network):
    text = run(notebook, classes=classes, network=network)
    assert_sound(text)
    for words in SAYS.get((notebook, network), []):
        assert words in text


@pytest.mark.parametrize("notebook", ["01", "04", "05"])
def test_a_single_mistake_is_enough_for_a_notebook(notebook):
    assert_sound(run(notebook, network=SLIP))
    mistakes = {"01": "test/errors", "04": "gallery/incorrect", "05": "failures/errors"}
    assert recorded()[mistakes[notebook]] == 1


def test_what_there_is_not_is_recorded_as_nothing():
    run("01", network="perfect")
    nothing = {name for name, value in recorded().items() if value is None}
    assert nothing == {"confusion/top3", "test/sure-errors"}


@pytest.mark.parametrize("notebook", ["01", "03", "04"])
def test_two_images_of_a_class_are_enough(notebook, tmp_path):
    root = paint(tmp_path / "few", 2, {"train": 2, "test": 2})
    assert_sound(run(notebook, classes=2, dataset=f"folder:{root}"))


def test_the_example_of_the_readme_can_be_run(tmp_path, monkeypatch):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```bash\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    (example,) = [block for block in blocks if "scripts/paint_folder.py" in block]
    painting, running = (shlex.split(line, comments=True) for line in example.splitlines())
    script, target = painting[-2:]
    subprocess.run([sys.executable, ROOT / script, target], cwd=tmp_path, check=True)
    (given,) = (word for word in running if word.startswith("PARAMS="))
    asked = parameters.read(given.removeprefix("PARAMS="))
    parameters.check(asked, (ROOT / "notebooks").glob("*.ipynb"))

    monkeypatch.setattr(folders, "ROOT", tmp_path)
    monkeypatch.chdir(ROOT / "notebooks")  # where notebooks run
    profile = profiles.load("quick", **{name.lower(): value for name, value in asked.items()})
    counts = {split: len(training.load_split(profile, split)) for split in data.sets.SPLITS}
    assert counts == {"train": 171, "validation": 9, "test": 60}
    classifier, start = training.untrained(profile)
    assert classifier.class_names == ("blue", "green", "red")
    assert start == "random"
