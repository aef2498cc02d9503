"""The rules of a second device, kept by all helpers and by the notebooks' own cells."""

import random
import re
import shutil
from contextlib import contextmanager, nullcontext
from dataclasses import replace

import nbformat
import numpy as np
import own_images
import pytest
import second_device
import torch
import torch.nn.functional as F
import untouched
from test_clip_dissect import tiny_clip  # noqa: F401
from torch import nn

from helpers import data, nets
from helpers.course import explorers
from helpers.dissect import clip, netdissect
from helpers.explain import METHODS, explain, lime, shapley
from helpers.measure import faithfulness, sanity
from helpers.nets import models, training
from helpers.run import costs, files, profiles

MIXED, NUMPY = "on the same device", "can't convert cuda:0 device type tensor to numpy"


@contextmanager
def plugged_in():
    """Plug a card in; inside, no helper may touch the reader's random numbers, on either side."""
    with second_device.card() as device, untouched.watched() as watched:
        yield device
    assert not watched.touched


@pytest.fixture
def card():
    """Plug a card in."""
    with plugged_in() as device:
        yield device


# ---- the tool itself ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("refused", "words"),
    [
        (lambda here, card: here + card, MIXED),
        (lambda here, card: card * here, MIXED),
        (lambda here, card: here @ card, MIXED),
        (lambda here, card: torch.cat([here, card]), MIXED),
        (lambda here, card: torch.stack([here[0], card[0]]), MIXED),
        (lambda here, card: torch.where(card > 0, card, here), MIXED),
        (lambda here, card: torch.equal(here, card), MIXED),
        (lambda here, card: here.gather(0, card.long()), MIXED),
        (lambda here, card: here[card.long()], MIXED),
        (lambda here, card: here[card > 0], MIXED),
        (lambda here, card: torch.zeros(()).add_(card[0]), MIXED),
        (lambda here, card: card.index_add_(0, torch.tensor([0]), card[:1]), MIXED),
        (lambda here, card: card.__setitem__(torch.tensor([0, 1]), here[:2]), MIXED),
        (lambda here, card: F.conv1d(here[None, None], card[None, None]), MIXED),
        (lambda here, card: nn.Linear(3, 2).to("cuda")(here), MIXED),
        (lambda here, card: F.cross_entropy(card[None], torch.tensor([0])), MIXED),
        (lambda here, card: card.numpy(), NUMPY),
        (lambda here, card: np.asarray(card), NUMPY),
        (lambda here, card: np.stack([card, card]), NUMPY),
        (lambda here, card: torch.rand(3, device="cuda", generator=torch.Generator()), "generator"),
    ],
)  # fmt: skip
def test_what_a_card_refuses_is_refused(card, refused, words):
    here = torch.tensor([1.0, 2.0, 0.0])
    with pytest.raises((RuntimeError, TypeError), match=words):
        refused(here, here.to(card))


@pytest.mark.parametrize(
    "allowed",
    [
        lambda here, card: card + torch.tensor(1.0),  # a single number of this side
        lambda here, card: torch.where(card > 0, card, torch.tensor(0.0)),
        lambda here, card: card[torch.tensor([0, 2])],  # indices of this side
        lambda here, card: card[[2, 0]],
        lambda here, card: card[np.array([2, 0])],
        lambda here, card: card[here > 0],
        lambda here, card: card.clone().copy_(here),
        lambda here, card: here.to(card),
        lambda here, card: here.cuda(),
        lambda here, card: card.new_tensor([1.0, 2.0]),
        lambda here, card: card.new_zeros(2),
        lambda here, card: torch.tensor([1.0, 2.0], device=card.device),
        lambda here, card: torch.arange(3, device=card.device),
        lambda here, card: torch.zeros_like(card).normal_(),
        lambda here, card: torch.from_numpy(np.ones(3)).to(card.device),
        lambda here, card: F.interpolate(card[None, None], 6, mode="linear"),
        lambda here, card: card.quantile(0.5),
    ],
)
def test_what_a_card_allows_goes_through_and_stays_there(card, allowed):
    here = torch.tensor([1.0, 2.0, 0.0])
    result = allowed(here, here.to(card))
    assert result.device == card and result.is_cuda and result.device.type == "cuda"


def test_numbers_may_come_back(card):
    here = torch.tensor([1.0, 2.0, 0.0])
    there = here.to(card)
    assert there.cpu().device.type == "cpu" and torch.equal(there.cpu(), here)
    assert there.cpu().numpy().sum() == there.sum().item() == float(there.sum()) == 3
    assert there.tolist() == [1.0, 2.0, 0.0] and f"{there[1]:.2f}" == "2.00"
    assert here[there[0].long()] == 2  # a single number, which PyTorch reads
    assert torch.tensor([there[0], there[1]]).tolist() == [1.0, 2.0]
    other = torch.zeros(3)
    other[:2] = there[:2]  # a copy
    assert other.tolist() == [1.0, 2.0, 0.0]
    assert "cuda:0" in repr(there)


def test_changes_in_place_reach_views_and_shapes(card):
    there = torch.zeros(2, 3).to(card)
    there[0].fill_(5)
    there[1] += 1
    there[:, 2] = torch.tensor(7.0)
    assert there.tolist() == [[5, 5, 7], [1, 1, 7]]
    assert there.unsqueeze_(0).shape == (1, 2, 3)
    assert there[0].t_().tolist() == [[5, 1], [5, 1], [7, 7]]


def test_a_network_learns_there_what_it_learns_here():
    def learned(device):
        torch.manual_seed(0)
        network = nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Flatten(),
            nn.Linear(4 * 36, 2),
        ).to(device)  # fmt: skip
        assert all(isinstance(p, nn.Parameter) for p in network.parameters())
        assert {p.device.type for p in network.state_dict().values()} == {device}
        optimizer = torch.optim.AdamW(network.parameters(), 1e-2)
        images = torch.rand(8, 3, 8, 8).to(device)
        labels = torch.arange(8, device=device) % 2
        for _ in range(3):
            optimizer.zero_grad()
            F.cross_entropy(network(images), labels).backward()
            optimizer.step()
        return [p.detach().cpu() for p in network.parameters()]

    here = learned("cpu")
    with second_device.card():
        there = learned("cuda")
    for a, b in zip(here, there, strict=True):
        torch.testing.assert_close(a, b)


def test_the_card_draws_from_random_numbers_of_its_own(card):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first = torch.rand(3, device=card)
    assert torch.equal(torch.get_rng_state(), before)
    assert not torch.equal(torch.rand(3, device=card), first)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        assert torch.equal(torch.rand(3, device=card), first)
    torch.default_generator.manual_seed(0)  # this seeds the numbers of this side alone
    assert not torch.equal(torch.rand(3, device=card), first)


def test_without_the_card_nothing_is_left():
    with second_device.card():
        assert torch.cuda.is_available()
    assert torch.cuda.is_available() == (torch.cuda.device_count() > 0)
    x = torch.rand(3, requires_grad=True)
    x.sum().backward()
    assert type(x.grad) is torch.Tensor


# ---- the watch over random numbers -------------------------------------------------------------


@pytest.mark.parametrize(
    ("draw", "owner"),
    [
        ("random.random()", "python"),
        ("np.random.rand()", "numpy"),
        ("torch.rand(1)", "torch"),
        ("torch.rand(1, device='cuda')", "cuda"),
        ("torch.manual_seed(0)", "cuda, torch"),
        ("np.random.default_rng(0).random(), torch.Generator().manual_seed(0)", ""),
        ("measure()", ""),
    ],
)
def test_a_helper_that_draws_the_reader_s_numbers_is_named(draw, owner):
    @torch.random.fork_rng()
    def measure():
        torch.manual_seed(0)
        torch.rand(1, device="cuda")

    names = {"__name__": "helpers.measure.made_up", "random": random, "np": np, "torch": torch,
             "measure": measure}  # fmt: skip
    exec(f"def helper():\n    return {draw}", names)
    with second_device.card(), untouched.watched() as watched:
        torch.manual_seed(1)  # the reader may
        names["helper"]()
    assert watched.rooms == {"measure"}
    touched = {f"helpers.measure.made_up.helper: {one}" for one in owner.split(", ") if owner}
    assert watched.touched == touched


# ---- all helpers, with the classifier on the card ----------------------------------------------

CLASSES = torch.tensor([0, 1, 2])


@pytest.fixture(scope="module")
def images():
    """Three painted images, as the notebooks have them."""
    return data.load("shapes", "test", 3, 64)


def on_card(name="shapes_net"):
    """Return an untrained classifier on the best device, which is the card."""
    classifier = models.build(name, tuple("abc"), 64).to(models.best_device())
    assert classifier.device == second_device.CARD
    return classifier


def answers(maps):
    """Check that what helpers hand out is on this side."""
    assert maps.device.type == "cpu" and type(maps) is torch.Tensor
    return maps


@pytest.mark.parametrize("method", METHODS)
def test_every_method_explains_there_as_here(method, images):
    quarters = (np.indices((64, 64)) // 32).T @ [1, 2]
    few = {"segments": [quarters] * 2} if "segments" in METHODS[method].takes else {}
    others = {"gradcam": ["shapes_vit"], "lime": ["mobilenet_v2"]}  # tokens; ReLU6, folded
    networks = ["shapes_net", *others.get(method, [])]
    for name in networks:
        here = models.build(name, tuple("abc"), 64)
        task = (images.images[:2], CLASSES[:2])
        expected = explain(method, here, *task, samples=12, **few)
        with second_device.card():
            there = answers(explain(method, on_card(name), *task, samples=12, **few))
        torch.testing.assert_close(there, expected, atol=2e-3, rtol=0)


def test_methods_take_classes_and_images_of_either_side(card, images):
    for method in ("gradcam", "guided backprop", "edges"):
        answers(explain(method, on_card(), images.images.to(card), CLASSES.to(card)))


def test_lime_and_shapley_values_of_their_own(card, images):
    classifier = on_card()
    image, segments = images.images[0], (np.indices((64, 64)) // 32).T @ [1, 2]
    told = lime.explain(
        classifier, images.images[:1], [1], segments=[segments], num_samples=20, bf16=True
    )
    answers(lime.heatmap(told[0], 1))
    around = lime.draw(classifier, image, num_samples=20, hide_color="blur")
    lime.refit(around, [0, 1])
    game = shapley.superpixel_game(classifier, image, 1, segments, torch.zeros(3, 1, 1), logit=True)
    for values in (shapley.exact(game, 4), shapley.sampled(game, 4, 2), shapley.kernel(game, 4)):
        answers(values)


def test_measures(card, images):
    classifier = on_card()
    heat = explain("centre", classifier, images.images, CLASSES)
    task = (classifier, images.images, CLASSES, heat)
    values = faithfulness.score(*task, images.masks, steps=3, road_shares=[0.3])
    for value in values.values():
        answers(value)
    sensitivity = faithfulness.max_sensitivity(
        lambda x: explain("gradcam", classifier, x, CLASSES), images.images, tries=1
    )
    answers(sensitivity)


def test_the_cascade_forgets_the_same_on_either_side(images):
    def weights():
        steps = sanity.cascade(
            models.build("shapes_vit", tuple("abc"), 64).to(models.best_device())
        )
        return [
            (name, step.device.type, [p.detach().cpu() for p in step.network.parameters()])
            for name, step in steps
        ]

    here = weights()
    with plugged_in():
        there = weights()
    assert {device for _, device, _ in there} == {"cuda"}
    for (name, _, a), (same, _, b) in zip(here, there, strict=True):
        assert name == same
        torch.testing.assert_close(a, b)


def test_layers_are_recorded_edited_and_dissected(card, images):
    for name in ("shapes_net", "shapes_vit"):
        classifier = on_card(name)
        stages = classifier.architecture.stages
        answers(classifier.logits(images.images))
        answers(nets.activations(classifier, stages[0], images.images))
        for means in nets.unit_means(classifier, stages, images.images).values():
            answers(means)
        nets.receptive_field(classifier, stages[0])
        assert answers(top_of(classifier, images)).shape == (2, 3, 64, 64)
        with nets.edited(classifier, stages[0], lambda output: output * 0):
            classifier.logits(images.images)
        with nets.record(classifier, stages[-1], "leaf") as seen:
            classifier.network(classifier.preprocess(images.images)).sum().backward()
        assert seen[stages[-1]].grad.is_cuda
        found = netdissect.dissect(classifier, stages, images)
        answers(found[stages[0]].iou)
        with netdissect.ablated(classifier, stages[0], [1, 2]):
            classifier.logits(images.images)
        clip.unit_activations(classifier, stages[:1], images.images)


def top_of(classifier, images):
    top_images = explorers.most_exciting(classifier, images.images, 2)
    return top_images(classifier.architecture.stages[0], 0)[0]


def test_explorers_draw_their_first_picture(card, images, tmp_root):
    classifier = on_card()
    explorers.feature_maps(classifier, images.images).still()
    explorers.cam(classifier, images.images).still()
    explorers.lime(classifier, images.images, num_samples=10).still()


def test_a_network_is_trained_kept_and_found_again(card, tiny_profile, tmp_path):
    profile = profiles.load("quick", dataset="shapes", model="shapes_net", start="random")
    vars(profile.images).update(train=40, validation=20)
    recipe = training.recipe_of(
        profile, epochs=2, batch_size=20, sizes=(32, 64), shift=2, label_smoothing=0.1
    )
    for layers in ("all", "last"):
        task = profile, replace(recipe, layers=layers), "random"
        first, _ = training.untrained(profile)
        assert first.device == card
        training.fit_or_load(first, *task)
        second, _ = training.untrained(profile)
        training.fit_or_load(second, *task)
        for a, b in zip(first.network.parameters(), second.network.parameters(), strict=True):
            assert a.is_cuda and b.is_cuda and torch.equal(a, b)


def test_bfloat16_is_for_cards_that_compute_it(card, monkeypatch):
    for capability, able in (((7, 5), False), ((8, 0), True), ((9, 0), True)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _device, c=capability: c)
        assert training._has_bfloat16(card) is able


def test_networks_of_every_family_answer_there_as_here(images):
    for name in ("resnet18", "densenet121", "squeezenet1_0"):
        here = models.build(name, tuple("abc"), 64)
        expected = here.logits(images.images)
        with plugged_in():
            there = on_card(name)
            torch.testing.assert_close(there.logits(images.images), expected, atol=1e-3, rtol=1e-3)
            answers(explain("ablationcam", there, images.images[:1], CLASSES[:1]))


def test_clip_sees_there_what_it_sees_here(images, tiny_clip):  # noqa: F811
    expected = clip.Encoder(tiny_clip[0]).images(images.images)
    shutil.rmtree(files.data_folder() / "cache")
    with plugged_in():
        encoder = clip.Encoder(tiny_clip[0])
        found = answers(encoder.images(images.images))
        table = clip.images_by_words(found, answers(encoder.words(("dog", "red", "sky"))))
    torch.testing.assert_close(found, expected)
    assert table.shape == (3, 3)


def test_what_a_call_costs_is_measured_on_the_card(card):
    assert costs.measure(lambda: 1)[0] == 1


# ---- the cells of the notebooks ----------------------------------------------------------------

NOTEBOOKS = sorted((files.ROOT / "notebooks").glob("*.ipynb"))
WATCHED = ("08", "10", "11")  # for random numbers, too: that takes longer
ROOMS = {"course", "dissect", "measure", "explain", "nets", "data", "run"}


def rooms_of(path):
    """Return the rooms that the cells of a notebook import from."""
    cells = nbformat.read(path, 4).cells
    source = "\n".join(cell.source for cell in cells if cell.cell_type == "code")
    direct = re.findall(r"(?:from|import) helpers\.(\w+)", source)
    named = ", ".join(re.findall(r"from helpers import (.*)", source))
    return (set(direct) | set(re.findall(r"\w+", named))) & ROOMS


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem[:2])
def test_the_cells_of_a_notebook_keep_the_rules(path):
    own_images.checkpoint(3, "perfect")  # trained here
    number = path.stem[:2]
    with second_device.card(), untouched.watched() if number in WATCHED else nullcontext() as seen:
        own_images.run(number)
    if seen:
        assert not seen.touched
        assert seen.rooms >= rooms_of(path)


def test_the_watched_notebooks_go_into_all_rooms():
    watched = [path for path in NOTEBOOKS if path.stem[:2] in WATCHED]
    assert set().union(*map(rooms_of, watched)) == ROOMS


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem[:2])
def test_solutions_hide_no_move_between_devices(path):
    solution = re.compile("### BEGIN SOLUTION(.*?)### END SOLUTION", re.DOTALL)
    for cell in nbformat.read(path, 4).cells:
        for hidden in solution.findall(cell.source):
            assert not re.search(r"\.cpu\(|\.cuda\(|\.to\(|device", hidden), cell.id
