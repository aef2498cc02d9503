"""The rehearsal: profile full in small, on a mirror of stand-ins that say what they are."""

import json
import os
from pathlib import Path
from types import SimpleNamespace

import mirror
import nbformat
import numpy as np
import pytest
import rehearse
import torch
from PIL import Image

from helpers import data
from helpers.data import assets, imagenet, texts
from helpers.dissect import concepts
from helpers.nets import models
from helpers.run import profiles
from helpers.run.errors import WorkbookError

ROOT = Path(__file__).resolve().parent.parent
NAMES = [path.stem for path in sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))]


# ---- the profile -------------------------------------------------------------------------------


def flat(settings, before=""):
    """Return the settings of a profile by dotted name."""
    found = {}
    for key, value in settings.items():
        value = vars(value) if isinstance(value, SimpleNamespace) else value
        name = f"{before}{key}"
        found |= flat(value, f"{name}.") if isinstance(value, dict) else {name: value}
    return found


def test_the_rehearsal_makes_the_choices_of_full_with_smaller_counts():
    full, small = (flat(vars(profiles.load(name))) for name in ("full", "rehearsal"))
    assert full.keys() == small.keys()
    # Few of the sample images are looked at, among which is another class.
    for name in full.keys() - {"name", "run", "dissection.one_class"}:
        if full[name] == small[name]:
            continue
        assert type(full[name]) is type(small[name]), name
        if isinstance(full[name], list):  # numbers of samples that are compared
            assert max(small[name]) < max(full[name]), name
            assert all(isinstance(n, int) for n in small[name]), name
        else:
            assert type(full[name]) is int, f"{name} is a choice, and no count"
            assert 0 < small[name] < full[name], name


def test_the_rehearsal_is_offered_by_no_list_and_never_chosen(monkeypatch, one_line):
    assert "rehearsal" not in profiles.names()
    with pytest.raises(WorkbookError) as error:
        profiles.load("rehersal")
    assert "rehearsal" not in str(error.value)
    one_line(error, "'rehersal'")
    monkeypatch.delenv("WORKBOOK_PROFILE", raising=False)
    for gpu in (True, False):
        monkeypatch.setattr(torch.cuda, "is_available", lambda gpu=gpu: gpu)
        assert profiles.load().name != "rehearsal"


# ---- stand-ins ----------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder for a mirror; nothing is at hand, and little is painted."""
    monkeypatch.delenv("WORKBOOK_MIRROR", raising=False)
    monkeypatch.setenv("WORKBOOK_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(rehearse, "PICTURES", {"train": 6, "test": 2})
    monkeypatch.setattr(rehearse, "ARTICLES", {"train": 2, "test": 1})
    return tmp_path / "mirror"


@pytest.fixture
def use(folder, monkeypatch):
    """Return a function that builds stand-ins for some assets, and makes them the mirror."""

    def build(*names):
        tables = rehearse.build(folder, names)
        monkeypatch.setenv("WORKBOOK_MIRROR", str(folder))
        return tables

    return build


def test_something_stands_in_for_all_that_full_downloads():
    for name in rehearse.needed():
        write, suffix, told = rehearse.stand_in(name)
        assert callable(write)
        assert suffix.startswith(".")
        assert "rehearsal" in told["note"], "provenance is never hidden"
        assert ("random" in told["note"]) == (write in (rehearse.network, rehearse.clip))


def test_what_nothing_stands_in_for_is_one_line(one_line):
    with pytest.raises(WorkbookError) as error:
        rehearse.stand_in("cifar1000")
    one_line(error, "cifar1000", "scripts/rehearse.py")


def test_images_and_words_are_read_like_the_real_ones(use):
    use("cifar10", "imagenet_samples", *imagenet.TEN, "concepts_20k", "concepts_3k",
        "concepts_places365")  # fmt: skip
    small = data.load("cifar10", "test")
    assert small.class_names == models.CIFAR10_CLASSES
    assert len(small) == 20
    assert "rehearsal" in small.note
    ten = data.load("imagenet_ten")
    assert ten.size == (224, 224)
    assert ten.masks.any()
    assert "rehearsal" in ten.note
    assert data.load("imagenet_samples", n=3).labels.tolist() == [0, 500, 999]
    assert set(concepts.words("20k")) != set(concepts.words("3k"))
    assert len(concepts.words("20k")) <= rehearse.WORDS


def test_texts_are_read_like_the_real_ones_and_differ_by_group(use):
    use("newsgroups20")
    train, test = (data.load_text("newsgroups20", split) for split in ("train", "test"))
    assert (len(train), len(test)) == (40, 20)
    assert len(train.class_names) == 20
    assert not set(train.texts) & set(test.texts)
    assert "rehearsal" in train.note
    for name, part in texts.parts(train.texts[0]).items():
        assert part.strip(), f"an article has no {name}"
    fewest = profiles.load("rehearsal").text_lime.fewest
    assert min(len(set(text.split())) for text in train.texts) > fewest


def test_random_networks_have_the_real_architecture_and_say_that_they_are_random(use):
    use("places365_resnet18", "concepts_places365")
    classifier = models.pretrained("resnet18", "places365")
    assert len(classifier.class_names) == 365
    assert classifier.note == rehearse.RANDOM
    assert classifier.probabilities(torch.rand(2, 3, 64, 64)).shape == (2, 365)


def test_the_same_stand_ins_are_made_each_time(folder):
    names = ("imagenet_n01443537_goldfish", "newsgroups20", "cifar10", "concepts_10k")
    first = rehearse.build(folder, names)
    assert rehearse.build(folder, names) == first


def test_what_a_real_mirror_holds_is_taken_and_its_word_lists_are_cut(
    folder, tmp_path, monkeypatch
):
    real = tmp_path / "real"
    real.mkdir()
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(real / "fish.png")
    (real / "words.txt").write_text("\n".join(f"word{i}" for i in range(500)))
    tables = {
        name: {"file": file, "sha256": mirror.pooch.file_hash(str(real / file)), "note": "old"}
        for name, file in (
            ("imagenet_n01443537_goldfish", "fish.png"),
            ("concepts_3k", "words.txt"),
        )
    }
    mirror.write_list(real, tables)
    monkeypatch.setenv("WORKBOOK_MIRROR", str(real))
    rehearse.build(folder, ["imagenet_n01443537_goldfish", "imagenet_n01491361_tiger_shark"])
    monkeypatch.setenv("WORKBOOK_MIRROR", os.path.relpath(folder))
    assert assets.fetch("imagenet_n01443537_goldfish").path == real / "fish.png"
    assert assets.fetch("imagenet_n01443537_goldfish").note == "old"
    assert "rehearsal" in assets.fetch("imagenet_n01491361_tiger_shark").note
    assert len(concepts.words("3k")) == rehearse.WORDS
    assert "rehearsal" in assets.fetch("concepts_3k").note


# ---- the run: `make rehearse` makes it, here one looks at it -------------------------------------


@pytest.fixture(scope="module")
def rehearsed():
    """Return the folder of the notebooks that `make rehearse` has executed."""
    folder = ROOT / "build" / "rehearsal" / "notebooks"
    if not folder.exists():
        pytest.skip("not rehearsed here: make rehearse")
    return folder


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_goes_through_the_rehearsal(rehearsed, name):
    cells = [
        c for c in nbformat.read(rehearsed / f"{name}.ipynb", 4).cells if c.cell_type == "code"
    ]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert all(output.output_type != "error" for cell in cells for output in cell.outputs)
    results = json.loads((ROOT / f"figures/rehearsal/results/{name}.json").read_text())
    assert results["numbers"]


def test_the_results_of_a_rehearsal_say_that_networks_are_random(rehearsed):
    folder = ROOT / "figures" / "rehearsal" / "results"
    notes = json.loads((folder / "08_network_dissection.json").read_text())["notebooks"]
    assert rehearse.RANDOM in notes["08_network_dissection"]["notes"]
