"""Training: it learns, repeats itself exactly, and never loses an earlier checkpoint."""

import errno
import os
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from helpers import data as datasets
from helpers.data import ImageSet, assets
from helpers.nets import models, training
from helpers.nets.training import Recipe
from helpers.run import files
from helpers.run.errors import WorkbookError


def easy(n=64, seed=0, split="train"):
    """Two classes, light on the left and light on the right, 16 x 16."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % 2
    pixels = torch.randint(0, 90, (n, 3, 16, 16), generator=generator, dtype=torch.uint8)
    pixels[labels == 0, :, :, :8] += 150
    pixels[labels == 1, :, :, 8:] += 150
    ids = tuple(map(str, range(n)))
    return ImageSet("easy", split, pixels, labels, ("left", "right"), ids)


def network(seed=0, name="resnet20"):
    torch.manual_seed(seed)
    return models.build(name, ("left", "right"), 16, models.CIFAR_STATISTICS)


RECIPE = Recipe(epochs=4, learning_rate=5e-3, batch_size=16, flip=False)


def state(classifier):
    return {k: v.clone() for k, v in classifier.network.state_dict().items()}


# ---- fit ---------------------------------------------------------------------------------------


def test_training_learns_and_leaves_the_network_ready_to_use():
    classifier = network()
    history = training.fit(classifier, easy(), easy(32, 1), RECIPE)
    assert len(history.loss) == len(history.train_accuracy) == len(history.validation_accuracy) == 4
    assert history.loss[-1] < 0.5 * history.loss[0]
    assert history.validation_accuracy[-1] > 0.95
    assert training.accuracy(classifier, easy(32, 2)) > 0.95
    assert not any(module.training for module in classifier.network.modules())
    assert all(p.requires_grad for p in classifier.network.parameters())
    assert history.seconds > 0


@pytest.mark.parametrize("name", ["resnet20", "mobilenet_v2"])
def test_training_the_last_layer_changes_nothing_else(name):
    classifier = network(name=name)
    before = state(classifier)
    training.fit(classifier, easy(32), easy(8, 1), replace(RECIPE, epochs=1, layers="last"))
    head = classifier.architecture.head
    for key, value in state(classifier).items():
        assert torch.equal(value, before[key]) != key.startswith(f"{head}."), key
    assert all(p.requires_grad for p in classifier.network.parameters())


def test_training_all_layers_changes_all_layers():
    classifier = network()
    before = state(classifier)
    training.fit(classifier, easy(32), easy(8, 1), replace(RECIPE, epochs=1))
    assert not any(torch.equal(v, before[k]) for k, v in state(classifier).items())


def test_the_same_seed_gives_the_same_weights_and_another_one_others():
    found = []
    for seed, rest in ((0, 5), (0, 6), (1, 5)):
        classifier = network()
        torch.manual_seed(rest)  # what happened before must not matter
        training.fit(
            classifier, easy(32), easy(8, 1), replace(RECIPE, epochs=1, seed=seed, shift=2)
        )
        found.append(classifier.network.linear.weight.detach())
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_label_smoothing_reaches_the_loss():
    recipe = replace(RECIPE, epochs=1, learning_rate=1e-9, batch_size=32)
    losses = []
    for smoothing in (0.0, 0.3):
        classifier = network()
        classifier.network.linear.weight.data.mul_(100)  # sure of everything, right or wrong
        smoothed = replace(recipe, label_smoothing=smoothing)
        losses.append(training.fit(classifier, easy(32), easy(8), smoothed).loss[0])
    assert losses[0] != pytest.approx(losses[1], rel=0.01)


def test_unknown_layers_are_refused(one_line):
    with pytest.raises(WorkbookError) as error:
        training.fit(network(), easy(32), easy(8), replace(RECIPE, layers="first"))
    one_line(error, "'first'", '"all" or "last"')


@pytest.mark.parametrize("rate", [float("nan"), 1e30])
def test_a_training_that_diverges_is_stopped(rate, one_line):
    with pytest.raises(WorkbookError) as error:
        training.fit(network(), easy(32), easy(8), replace(RECIPE, learning_rate=rate, epochs=2))
    one_line(error, "learning rate")


# ---- augmentation ------------------------------------------------------------------------------


def test_without_flip_and_shift_nothing_changes():
    images = torch.rand(3, 3, 8, 8)
    assert torch.equal(training.augment(images, False, 0), images)


def test_a_flip_mirrors_about_half_of_the_images():
    torch.manual_seed(0)
    images = torch.rand(200, 3, 8, 8)
    flipped = training.augment(images, True, 0)
    same = (flipped == images).flatten(1).all(dim=1)
    mirrored = (flipped == images.flip(-1)).flatten(1).all(dim=1)
    assert (same ^ mirrored).all()
    assert 70 < mirrored.sum() < 130


def test_a_shifted_image_is_a_window_of_the_padded_one():
    torch.manual_seed(0)
    images = torch.rand(100, 3, 8, 10)
    shifted = training.augment(images, False, 2)
    padded = F.pad(images, (2, 2, 2, 2), mode="reflect")
    places = []
    for before, after in zip(padded, shifted, strict=True):
        found = [
            (y, x)
            for y in range(5)
            for x in range(5)
            if torch.equal(before[:, y : y + 8, x : x + 10], after)
        ]
        assert len(found) == 1
        places += found
    assert {y for y, _ in places} == {x for _, x in places} == set(range(5))
    assert len(set(places)) > 15, "rows and columns must move independently"


# ---- checkpoints -------------------------------------------------------------------------------


@pytest.fixture
def tiny(tiny_profile):
    tiny_profile.images.train = 60
    return tiny_profile


def checkpoints():
    folder = files.data_folder() / "checkpoints"
    return sorted(folder.iterdir()) if folder.exists() else []


def train(profile, **changes):
    classifier, start = training.untrained(profile)
    history = training.fit_or_load(
        classifier, profile, training.recipe_of(profile, **changes), start
    )
    return classifier, history


def fails(*_args, **_kwargs):
    raise AssertionError("this must not train")


def test_the_second_call_loads_what_the_first_has_trained(tiny, monkeypatch):
    first, history = train(tiny)
    (path,) = checkpoints()
    assert path.name.startswith("shapes_shapes_net_")
    monkeypatch.setattr(training, "fit", fails)
    second, again = train(tiny)
    assert again == history
    for key, value in second.network.state_dict().items():
        assert torch.equal(value, first.network.state_dict()[key])
    assert torch.equal(
        training.trained_classifier(tiny).network.conv1.weight, first.network.conv1.weight
    )


@pytest.mark.parametrize(
    "change",
    ["recipe", "number of images", "data", "start", "classes", "normalisation"],
)
def test_whatever_changes_makes_it_train_again(tiny, monkeypatch, change):
    classifier, start = training.untrained(tiny)
    recipe = training.recipe_of(tiny)
    history = training.History([1.0], [0.5], [0.5], 1.0)
    trained = []
    monkeypatch.setattr(training, "fit", lambda *_: trained.append(1) or history)
    training.fit_or_load(classifier, tiny, recipe, start)
    training.fit_or_load(classifier, tiny, recipe, start)
    assert len(trained) == 1
    match change:
        case "recipe":
            recipe = replace(recipe, seed=recipe.seed + 1)
        case "number of images":
            tiny.images.train += 10
        case "data":
            tiny.dataset = "shapes:star"
        case "start":
            start = "elsewhere"
        case "classes":
            classifier = replace(classifier, class_names=tuple("abcdefghij"))
        case "normalisation":
            classifier = replace(classifier, mean=(0.1, 0.1, 0.1))
    training.fit_or_load(classifier, tiny, recipe, start)
    assert len(trained) == 2
    assert len(checkpoints()) == 2


def test_a_killed_training_leaves_no_checkpoint_and_keeps_the_earlier_one(tiny, monkeypatch):
    train(tiny)
    (path,) = checkpoints()
    before = path.read_bytes()

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(training, "fit", killed)
        with pytest.raises(KeyboardInterrupt):
            train(tiny, seed=1)
    assert checkpoints() == [path]
    assert path.read_bytes() == before


def test_a_write_that_is_killed_leaves_nothing(tiny, monkeypatch):
    def killed(_value, path):
        path.write_bytes(b"half of it")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        train(tiny)
    assert checkpoints() == []


@pytest.mark.parametrize(
    "fault",
    [
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
        RuntimeError("[enforce fail at inline_container.cc:603] . PytorchStreamWriter failed"),
    ],
    ids=["OSError", "RuntimeError"],
)
def test_a_full_disk_is_one_line_and_leaves_nothing(tiny, monkeypatch, fault, one_line):
    def full(_value, path):
        path.write_bytes(b"half of it")
        raise fault

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(WorkbookError) as error:
        train(tiny)
    one_line(error, "cannot write shapes_shapes_net_", "free some space")
    assert checkpoints() == []


@pytest.mark.parametrize("damage", [b"", b"not a checkpoint", None])
def test_a_damaged_checkpoint_is_named(tiny, damage, one_line):
    train(tiny)
    (path,) = checkpoints()
    path.write_bytes(path.read_bytes()[:5000] if damage is None else damage)
    with pytest.raises(WorkbookError) as error:
        train(tiny)
    one_line(error, path.name, "delete it and train again")


def test_a_checkpoint_of_another_form_is_named(tiny, one_line):
    train(tiny)
    (path,) = checkpoints()
    saved = torch.load(path, weights_only=True)
    torch.save({"configuration": saved["configuration"]}, path)
    with pytest.raises(WorkbookError) as error:
        train(tiny)
    one_line(error, path.name)


def test_a_checkpoint_of_another_architecture_is_named(tiny, one_line):
    train(tiny)
    (path,) = checkpoints()
    saved = torch.load(path, weights_only=True)
    saved["weights"]["extra.weight"] = torch.zeros(1)
    torch.save(saved, path)
    with pytest.raises(WorkbookError) as error:
        train(tiny)
    one_line(error, path.name, "extra.weight", "delete that checkpoint")


def test_a_checkpoint_made_otherwise_is_named(tiny, one_line):
    train(tiny)
    (path,) = checkpoints()
    saved = torch.load(path, weights_only=True)
    torch.save(saved | {"configuration": "{}"}, path)
    with pytest.raises(WorkbookError) as error:
        train(tiny)
    one_line(error, path.name, "another configuration")


def test_the_start_is_the_same_each_time(tiny):
    first, start = training.untrained(tiny)
    torch.manual_seed(99)
    second, _ = training.untrained(tiny)
    assert start == "random"
    assert torch.equal(first.network.conv1.weight, second.network.conv1.weight)


def test_splits_are_as_large_as_the_profile_says(tiny):
    assert len(training.load_split(tiny, "validation")) == 40
    assert len(training.load_split(tiny, "train")) == 60


def test_weights_of_other_classes_are_refused(tiny, monkeypatch, one_line):
    weights = models.build("resnet20", models.CIFAR10_CLASSES, 32).network.state_dict()
    monkeypatch.setattr(assets, "state_dict", lambda _: (weights, ""))
    tiny.model, tiny.start = "resnet20", "cifar10"
    with pytest.raises(WorkbookError) as error:
        training.untrained(tiny)
    one_line(error, "resnet20", "other classes than shapes", 'START = "random"')
    monkeypatch.setattr(datasets, "class_names", lambda _: models.CIFAR10_CLASSES)
    assert training.untrained(tiny)[1] == "cifar10_resnet20"
