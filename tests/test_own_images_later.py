"""Notebooks 6, 7 and 9 to 12 off the happy path: own images, and networks that are never right."""

import re
import subprocess
from dataclasses import replace
from types import SimpleNamespace

import nbformat
import own_images
import pytest
import torch

from helpers import data
from helpers.course import handin
from helpers.course.handin import scoreboard, worker
from helpers.data import imagenet
from helpers.nets import models

# Each notebook with each number of classes and each network once.
PAIRS = list(zip(own_images.CLASSES, own_images.NETWORKS, strict=True))


class Here:
    """The scoreboard's worker without a process of its own, which takes seconds to start."""

    def __init__(self, classifier, seed, superpixels):
        self.job = {"classifier": classifier, "seed": seed, "superpixels": superpixels}

    def explain(self, image, arguments, seconds):
        return worker._explain(image=image, arguments=arguments, **self.job)

    def stop(self):
        pass


@pytest.fixture(autouse=True)
def quick_scoreboard(monkeypatch):
    """Ask the defaults about a few states instead of 1,000, all in this process."""
    monkeypatch.setattr(handin, "DEFAULTS", {key: {"num_samples": 20} for key in handin.KEYS})
    monkeypatch.setattr(scoreboard, "Worker", Here)
    read = SimpleNamespace(stdout="10 images; faults: none")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: read)


def test_classes_take_turns_and_those_of_shapes_do_so_already():
    shapes = data.load("shapes", "test", 40)
    assert shapes.by_turns().ids == shapes.ids
    assert shapes[[0, 10, 20, 1, 11, 2]].by_turns().ids == shapes[[0, 1, 2, 10, 11, 20]].ids


@pytest.mark.parametrize(("classes", "network"), PAIRS)
def test_lime_on_own_images(classes, network):
    text = own_images.run("06", classes=classes, network=network)
    shown = min(classes, 10)
    hits = {"perfect": shown, "blind": shown - 1, "wrong": 0}[network]
    assert f"names {hits} of {shown} images rightly" in text


@pytest.mark.parametrize(("classes", "network"), PAIRS)
def test_gradcam_against_lime_on_own_images(classes, network, monkeypatch):
    few = classes == 2
    monkeypatch.setitem(own_images.SMALL["images"], "test", 6 if few else 40)
    text = own_images.run("07", classes=classes, network=network)
    names = re.findall(r"^is: (.+?) +explained", text, re.MULTILINE)
    assert len(names) == 6 if few else 10
    assert len(set(names)) == min(classes, 10), "classes take turns"
    said = "Too few images for all of this: 6 for the ten, 6 for the many."
    assert (said in text) == few
    assert "what follows says it of Shapes alone" in text
    assert "truth/shapes-grad-cam" in own_images.recorded()
    assert "truth/ten-grad-cam" not in own_images.recorded()


@pytest.mark.parametrize(("classes", "network"), PAIRS)
def test_the_cam_family_on_own_images(classes, network, monkeypatch):
    images = {2: 2, 3: 6, 12: 40}[classes]
    monkeypatch.setitem(own_images.SMALL["images"], "test", images)
    text = own_images.run("09", classes=classes, network=network)
    pairs = re.findall(r"^is: (.+?) +top prediction: (.+) \d+%$", text, re.MULTILINE)
    assert len(pairs) == min(images, 10)
    assert len({true for true, _ in pairs}) == min(classes, 10)
    wrong = {true for true, said in pairs if true != said}
    assert len(wrong) == {"perfect": 0, "blind": 1, "wrong": min(classes, 10)}[network]


@pytest.mark.parametrize("notebook", ["10", "11", "12"])
def test_the_laboratory_does_not_ask_for_own_images(notebook):
    (path,) = (own_images.ROOT / "notebooks").glob(f"{notebook}*.ipynb")
    code = "\n".join(c.source for c in nbformat.read(path, 4).cells if c.cell_type == "code")
    assert "profiles.load(PROFILE" in code
    assert not re.search(r"profile\.(dataset|model\b|size)|\((?:classifier, )?profile[,)]", code)


@pytest.mark.parametrize("notebook", ["10", "11"])  # 12 is run below
def test_so_the_laboratory_runs_beside_any_folder(notebook):
    # With nothing but the name of the run to tell them apart, one folder stands for all.
    assert "data folder" not in own_images.run(notebook, classes=2, network="wrong")


# ---- an ImageNet network that is never right ---------------------------------------------------


def photographs(name, *args, **kwargs):
    """Load a data set; Shapes stand in for the ImageNet sets, their labels are ImageNet's."""
    if not name.startswith("imagenet"):
        return LOAD(name, *args, **kwargs)
    n = 10 if name == "imagenet_ten" else kwargs["n"]
    shapes, labels = LOAD("shapes", "test", 10 + n)[10:], [*imagenet.TEN.values()]
    if name == "imagenet_samples":
        return replace(shapes, name=name, labels=torch.arange(n), class_names=imagenet.CLASSES,
                       masks=None, concepts={})  # fmt: skip
    masks = shapes.masks.clone()
    masks[3] = False  # an object that is not in the picture
    return replace(shapes, name=name, labels=torch.tensor(labels), class_names=imagenet.CLASSES,
                   ids=tuple(imagenet.TEN), masks=masks, concepts={})  # fmt: skip


LOAD = data.load


@pytest.fixture
def never_right(kind, monkeypatch):
    """Let the notebooks load a network with random weights, or one that says the same of all."""
    classifier = models.build("shapes_net", imagenet.CLASSES, 64)
    head = classifier.layer(classifier.architecture.head)
    with torch.no_grad():
        if kind == "blank":
            head.weight.zero_()
        head.bias[[*imagenet.TEN.values()]] = -100
    monkeypatch.setattr(models, "pretrained", lambda name: classifier)
    monkeypatch.setattr(data, "load", photographs)
    monkeypatch.setitem(own_images.SMALL, "imagenet_model", "shapes_net")


@pytest.mark.filterwarnings("ignore:.*finds nothing")
@pytest.mark.usefixtures("never_right")
@pytest.mark.parametrize(
    ("notebook", "kind"),
    [("06", "random"), ("07", "blank"), ("09", "blank"), ("12", "blank")],
)
def test_a_network_that_is_never_right_on_the_photographs(notebook, kind):
    text = own_images.run(notebook, classes=2, network="perfect")
    numbers = own_images.recorded()
    match notebook:
        case "06":
            assert "It is never right here." in text
            assert numbers["images/right"] == 0
            assert numbers["ten/iou-lime"] is None
        case "07":
            assert "0 of the ten have an outline and the right name." in text
            assert "what follows says it of Shapes alone" in text
            assert ("finds nothing that supports" in text) == (kind == "blank")
        case "09":
            assert len(re.findall("top prediction", text)) == 10
        case "12":
            assert numbers["ten/right"] == 0
