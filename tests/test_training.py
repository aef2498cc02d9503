"""Training: it learns, repeats itself exactly, and never loses an earlier checkpoint."""

import errno
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from helpers import data as datasets
from helpers.data import ImageSet, assets
from helpers.nets import checkpoints as files_of_weights
from helpers.nets import laboratory, models, training
from helpers.nets.training import Recipe
from helpers.run import files, profiles
from helpers.run.errors import WorkbookError

ROOT = Path(__file__).resolve().parents[1]


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


def test_training_leaves_the_random_numbers_of_others_alone():
    torch.manual_seed(3)
    expected = torch.rand(4)
    classifier = network()
    torch.manual_seed(3)
    training.fit(classifier, easy(32), easy(8), replace(RECIPE, epochs=1, shift=2))
    assert torch.equal(torch.rand(4), expected)


def test_each_part_of_the_training_sees_images_of_its_size():
    classifier, seen = network(), []
    classifier.network.register_forward_pre_hook(
        lambda module, inputs: seen.append(inputs[0].shape[-1]) if module.training else None
    )
    recipe = replace(RECIPE, epochs=5, batch_size=32, sizes=(8, 12, 16))
    training.fit(classifier, easy(32), easy(8), recipe)
    assert seen == [8, 8, 12, 12, 16]
    assert classifier.input_size == 16
    seen.clear()
    training.fit(classifier, easy(32), easy(8), replace(recipe, epochs=1, sizes=()))
    assert seen == [16]


def test_a_network_of_one_size_sees_that_size_throughout():
    vit, seen = models.build("shapes_vit", ("left", "right"), 64), []
    vit.network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape[-1]))
    training.fit(vit, easy(8), easy(8), replace(RECIPE, sizes=(48, 64), epochs=2))
    assert set(seen) == {64}


@pytest.mark.parametrize(
    ("allowed", "has", "expected"),
    [(None, True, True), (None, False, False), ("AVX2", True, False), ("AVX512_CORE", True, False),
     ("AVX512_CORE_BF16", True, True), ("default", True, True)],
)  # fmt: skip
def test_bfloat16_only_where_it_is_fast(monkeypatch, allowed, has, expected):
    monkeypatch.setattr(
        torch.cpu, "get_capabilities", lambda: {"avx512_f": True, "avx512_bf16": has}, raising=False
    )
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    if allowed:
        monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", allowed)
    dtypes = []
    classifier = network()
    classifier.network.linear.register_forward_hook(
        lambda module, _inputs, output: dtypes.append(output.dtype) if module.training else None
    )
    training.fit(classifier, easy(16), easy(8), replace(RECIPE, epochs=1))
    assert dtypes == [torch.bfloat16 if expected else torch.float32]


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
    return sorted(folder.glob("*.pt"))


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


def test_a_folder_that_cannot_be_written_is_said_before_the_training(tiny, monkeypatch, one_line):
    monkeypatch.setattr(training, "fit", fails)
    files.data_folder().write_text("a file where the folder should be")
    with pytest.raises(WorkbookError) as error:
        train(tiny)
    one_line(error, "cannot write shapes_shapes_net_", "WORKBOOK_DATA")


TRAIN_AS_ANOTHER_NOTEBOOK = """
import sys, time
from pathlib import Path
from helpers.nets import training
from helpers.run import profiles

profile = profiles.shapes_lab()
profile.images.train, profile.images.validation, profile.training.epochs = 60, 40, 1
slow, trained = training.fit, Path(sys.argv[1])

def fit(*arguments):
    trained.write_text(trained.read_text() + "x" if trained.exists() else "x")
    time.sleep(1)
    return slow(*arguments)

training.fit = fit
classifier, start = training.untrained(profile)
training.fit_or_load(classifier, profile, training.recipe_of(profile), start, shipped=False)
print("sum", sum(float(p.double().sum()) for p in classifier.network.parameters()))
"""


def test_two_notebooks_train_a_network_once(tmp_path):
    command = [sys.executable, "-c", TRAIN_AS_ANOTHER_NOTEBOOK, str(tmp_path / "trained")]
    both = [
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                         text=True, env=os.environ | {"PYTHONPATH": str(ROOT)})
        for _ in range(2)
    ]  # fmt: skip
    said = [process.communicate(timeout=120)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert (tmp_path / "trained").read_text() == "x"
    assert sum("Trained meanwhile" in text or "Trained before" in text for text in said) == 1, said
    assert said[0].splitlines()[-1] == said[1].splitlines()[-1], "both have the same weights"
    assert len(checkpoints()) == 1


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
    one_line(error, path.name, "extra.weight", "delete it and train again")


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


# ---- shipped weights ---------------------------------------------------------------------------


@pytest.fixture
def shipped(tiny, tmp_root):
    """Ship the weights of the tiny profile; return the file and the classifier it was made of."""
    classifier, history = train(tiny)
    (own,) = checkpoints()
    saved = torch.load(own, weights_only=True)
    own.unlink()
    path = tmp_root / "data" / "weights" / own.name
    files_of_weights.save(path, classifier, saved["configuration"], saved["history"], half=True)
    return path, classifier, history


def test_shipped_weights_spare_the_training(tiny, shipped, monkeypatch, capsys):
    path, original, history = shipped
    monkeypatch.setattr(training, "fit", fails)
    classifier, start = training.untrained(tiny)
    found = training.fit_or_load(classifier, tiny, training.recipe_of(tiny), start)
    assert found == history
    assert path.name in capsys.readouterr().out
    assert path.name in classifier.note, "provenance is never hidden"
    assert checkpoints() == []
    images = torch.rand(20, 3, 64, 64)
    torch.testing.assert_close(
        classifier.logits(images), original.logits(images), atol=0.02, rtol=0.02
    )
    assert classifier.network.conv1.weight.dtype == torch.float32
    weights = torch.load(path, weights_only=True)["weights"]
    assert {v.dtype for v in weights.values()} == {torch.float16, torch.int64}


def test_shipped_weights_are_of_one_configuration_only(tiny, shipped, monkeypatch):
    monkeypatch.setattr(training, "fit", fails)
    for change in ({"learning_rate": 1e-3}, {"seed": 1}, {"sizes": (32,)}):
        with pytest.raises(AssertionError, match="must not train"):
            train(tiny, **change)
    tiny.images.train += 1
    with pytest.raises(AssertionError, match="must not train"):
        train(tiny)


def test_who_asks_for_a_training_gets_one(tiny, shipped, monkeypatch):
    classifier, start = training.untrained(tiny)
    recipe = training.recipe_of(tiny)
    training.fit_or_load(classifier, tiny, recipe, start, shipped=False)
    assert len(checkpoints()) == 1
    assert classifier.note == ""
    monkeypatch.setattr(training, "fit", fails)
    shipped[0].write_bytes(b"not read: what was trained here comes first")
    training.fit_or_load(training.untrained(tiny)[0], tiny, recipe, start)


@pytest.mark.parametrize("damage", [b"", b"not a checkpoint", "shortened", "one bit"])
def test_damaged_shipped_weights_are_named(tiny, shipped, damage, one_line):
    path, *_ = shipped
    content = bytearray(path.read_bytes())
    if damage == "shortened":
        content = content[:5000]
    elif damage == "one bit":
        content[len(content) // 2] ^= 1
    else:
        content = damage
    path.write_bytes(content)
    with pytest.raises(WorkbookError) as error:
        train(tiny)
    one_line(error, path.name, "damaged", "fetch it again")


# ---- the laboratory ----------------------------------------------------------------------------


def configuration(name):
    classifier, profile, recipe, start = laboratory.plan(name)
    return files_of_weights.configuration(classifier, profile, vars(recipe), start)


def test_notebook_one_trains_the_laboratorys_classifier_at_quick():
    quick = profiles.load("quick")
    classifier, start = training.untrained(quick)
    recipe = vars(training.recipe_of(quick))
    assert files_of_weights.configuration(classifier, quick, recipe, start) == configuration(
        "shapes_lab"
    )


def test_the_networks_of_the_laboratory_differ_as_they_should(one_line):
    plans = {name: laboratory.plan(name) for name in laboratory.NAMES}
    assert plans["shapes_heart"].recipe == plans["shapes_lab"].recipe
    assert plans["shapes_heart"].profile.dataset == "shapes:heart"
    assert plans["shapes_vit"].classifier.name == "shapes_vit"
    memoriser = plans["memoriser"]
    assert memoriser.profile.dataset == "shapes:shuffled"
    assert not memoriser.recipe.flip, "what is learned by heart must look the same each time"
    assert memoriser.profile.images.train < plans["shapes_lab"].profile.images.train
    assert len({configuration(name) for name in laboratory.NAMES}) == len(laboratory.NAMES)
    with pytest.raises(WorkbookError) as error:
        laboratory.plan("shapes_hart")
    one_line(error, "shapes_heart")


# ---- the weights in this repository ------------------------------------------------------------

TABLE = json.loads((ROOT / "data" / "weights" / "weights.json").read_text())


def test_the_table_is_of_the_files_there():
    assert list(TABLE) == list(laboratory.NAMES)
    found = {path.name: path.stat().st_size for path in (ROOT / "data" / "weights").glob("*.pt")}
    assert found == {entry["file"]: entry["bytes"] for entry in TABLE.values()}
    assert max(found.values()) < 1e6


@pytest.mark.parametrize("name", laboratory.NAMES)
def test_shipped_weights_are_of_the_present_recipe_and_as_good_as_the_table_says(name):
    entry = TABLE[name]
    now = json.loads(configuration(name))
    assert now == entry["configuration"], "run `make weights`, and commit what it writes"
    classifier, _ = laboratory.trained(name)
    assert entry["file"] in classifier.note, "the shipped file was not used"
    few = datasets.load("shapes", "test", 400)
    stated = entry["test_accuracy_shipped"]
    error = (stated * (1 - stated) / len(few)) ** 0.5
    assert training.accuracy(classifier, few) == pytest.approx(stated, abs=4 * error)
    assert entry["test_accuracy_fresh"] == pytest.approx(stated, abs=0.01)


def test_the_recipe_of_quick_is_as_good_as_it_was():
    assert TABLE["shapes_lab"]["test_accuracy_fresh"] > 0.955
    assert TABLE["shapes_vit"]["test_accuracy_fresh"] > 0.92
    assert TABLE["memoriser"]["train_accuracy_fresh"] > 0.9
    assert TABLE["memoriser"]["test_accuracy_fresh"] < 0.2, "nothing to understand in its labels"


@pytest.mark.slow
def test_a_fresh_training_agrees_with_the_shipped_weights():
    shipped, _ = laboratory.trained("memoriser")
    fresh, history = laboratory.trained("memoriser", train=True)
    assert history.train_accuracy[-1] == pytest.approx(
        TABLE["memoriser"]["train_accuracy_fresh"], abs=0.05
    )
    learned = training.load_split(laboratory.plan("memoriser").profile, "train")
    both = [training.accuracy(classifier, learned) for classifier in (shipped, fresh)]
    assert both[0] == pytest.approx(both[1], abs=0.05), both
