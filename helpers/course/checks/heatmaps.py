"""Check the exercises on heatmaps: how they are made, and whether they can be trusted."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from helpers.course.checks import answers
from helpers.course.checks.answers import NotYet, exercise
from helpers.explain import explain, shapley
from helpers.measure import localisation
from helpers.nets import models


@exercise("4.1")
def grad_cam(answer: Callable[[nn.Module, nn.Module, Tensor, int], Tensor]) -> None:
    """Exercise 4.1: ``answer(network, layer, image, c)`` equals Grad-CAM of the library."""
    classifier = models.build("shapes_net", tuple("abcdefghij"), 64)
    image = torch.rand(1, 3, 64, 64)
    inputs = classifier.preprocess(image)
    # At layer2 the gradient differs from cell to cell, so that its mean matters.
    for name, c in (("layer3", 2), ("layer3", 7), ("layer2", 2)):
        found = answer(classifier.network, classifier.layer(name), inputs, c)
        found = answers.tensor(found, (64, 64))
        (expected,) = explain("gradcam", classifier, image, torch.tensor([c]), name)
        if found.min() < 0:
            raise NotYet("there is negative heat: keep what speaks for the class, with a ReLU")
        if abs(found.max() - 1) > 1e-3:
            raise NotYet("the hottest pixel must be 1: divide by the maximum")
        if (error := (found - expected).abs().max()) > 1e-4:
            raise NotYet(
                f"for class {c} the map differs by up to {error:.2f} from the library's: weights "
                "are the gradient's mean over height and width, before the ReLU"
            )


@exercise("4.2")
def heat_on_object(answer: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Exercise 4.2: ``answer(heatmaps, masks)`` gives the share of heat on each object."""
    heatmaps, masks = torch.rand(3, 8, 8), torch.rand(3, 8, 8) < 0.4
    heatmaps[0] = masks[0].float()
    heatmaps[1] = 1.0
    found = answers.tensor(answer(heatmaps, masks), (3,))
    answers.each(
        found, localisation.energy_in_mask(heatmaps, masks),
        ("a perfect map (share 1)", "a uniform map (the object's area)", "a random map"),
    )  # fmt: skip


@exercise("5.1")
def hottest(answer: Callable[[Tensor, float], Tensor]) -> None:
    """Exercise 5.1: ``answer(heatmap, share)`` marks exactly that share of hottest pixels."""
    heatmap = torch.rand(10, 12)
    ties = torch.zeros(10, 12)
    ties[:2] = 1
    hint = " (a threshold alone can't do it where pixels are equal)"
    for what, case, share in (("a random map", heatmap, 0.2), ("a map with ties", ties, 0.25)):
        n = round(share * case.numel())
        answers.mask(answer(case.clone(), share), case, n, what, hint)


@exercise("9.1")
def ablation_weights(answer: Callable[[Tensor, Tensor, float], Tensor]) -> None:
    """Exercise 9.1: ``answer(activations, w, b)`` gives the AblationCAM weights [C]."""
    activations, w, b = torch.rand(5, 3, 4), torch.randn(5), 1.5
    found = answers.tensor(answer(activations.clone(), w.clone(), b), (5,))
    losses = w * activations.mean(dim=(1, 2))  # without a channel the score lacks what it gave
    score = losses.sum() + b
    if torch.allclose(found, losses, atol=1e-4):
        raise NotYet("these are the losses; divide them by the score")
    if torch.allclose(found * (score - b), losses, atol=1e-4):
        raise NotYet("the score has a bias: y = sum of the contributions + b")
    answers.close(found, losses / score, 1e-4, "the weights of a random network")


@exercise("12.1")
def randomise_from_the_top(answer: Callable[[nn.Module, list[str], Callable], Tensor]) -> None:
    """Exercise 12.1: ``answer(network, layers, explain)`` randomises a copy layer by layer."""
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), nn.Flatten(), nn.Linear(16, 5))
    trained = {name: value.clone() for name, value in network.state_dict().items()}
    layers = ["3", "1", "0"]

    def fingerprint(seen: nn.Module) -> Tensor:
        """Return how far each of the layers is from the trained one."""
        now = seen.state_dict()
        gaps = [(now[f"{name}.weight"] - trained[f"{name}.weight"]).abs().max() for name in layers]
        return torch.stack(gaps)[:, None]

    found = answers.tensor(answer(network, list(layers), fingerprint), (3, 3, 1))
    if any(not torch.equal(network.state_dict()[name], value) for name, value in trained.items()):
        raise NotYet("the network itself was changed: work on copy.deepcopy(network)")
    for step, name in enumerate(layers):
        changed = found[step, :, 0] > 0
        if not changed[step]:
            raise NotYet(f"map {step} must show the network with layer {name!r} randomised")
        if not changed[:step].all():
            raise NotYet(
                f"map {step}: the layers above {name!r} are trained again; a cascade keeps what "
                "was randomised before"
            )
        if changed[step + 1 :].any():
            raise NotYet(f"map {step}: layers below {name!r} must still be the trained")


@exercise("12.2")
def deletion_curve(answer: Callable[[Callable, Tensor, Tensor, Tensor, int], Tensor]) -> None:
    """Exercise 12.2: ``answer(score, image, heatmap, cover, steps)`` gives the deletion curve."""
    weights = torch.rand(3, 8, 10)
    image, cover = torch.rand(3, 8, 10), torch.tensor([0.5, 0.4, 0.3]).view(3, 1, 1)
    heatmap = torch.rand(8, 10) ** 3

    def score(images: Tensor) -> Tensor:
        return (weights * images).sum(dim=(1, 2, 3))

    steps = 5
    curve = answer(score, image.clone(), heatmap.clone(), cover, steps)
    found = answers.tensor(curve, (steps + 1,))
    order = heatmap.flatten().argsort(descending=True)
    lost = (weights * (image - cover)).sum(dim=0).flatten()[order].view(steps, -1).sum(dim=1)
    expected = score(image[None]) - torch.cat([torch.zeros(1), lost.cumsum(dim=0)])
    if abs(found[0] - expected[0]) > 1e-3:
        raise NotYet("the curve begins with the whole image: at step 0 nothing is hidden")
    if abs(found[-1] - expected[-1]) > 1e-3:
        raise NotYet("the curve ends with the cover alone: at the last step all is hidden")
    answers.close(found, expected, 1e-3, "the curve of a linear model")


@exercise("12.3")
def shapley_values(answer: Callable[[Callable[[frozenset], float], int], Tensor]) -> None:
    """Exercise 12.3: ``answer(v, n)`` gives the Shapley values of a game of n players."""
    for n, what in ((3, "the glove game"), (3, "a random game of three"), (4, "one of four")):
        worth = torch.rand(2**n, dtype=torch.float64)
        if what == "the glove game":  # a left glove (0) and a right one (1 or 2) are worth 1
            worth = torch.tensor([float(i & 1 and i > 1) for i in range(2**n)])
        place = 2 ** torch.arange(n)

        def value(coalition, worth=worth) -> float:
            return float(worth[sum(2**player for player in set(coalition))])

        def game(coalitions: Tensor, worth=worth, place=place) -> Tensor:
            return worth[(coalitions.long() * place).sum(dim=1)]

        found = answers.tensor(answer(value, n), (n,))
        total = value(range(n)) - value(())
        if abs(float(found.sum()) - total) > 1e-3:
            raise NotYet(
                f"{what}: the values add up to {found.sum():.3f}, but the coalition of all gains "
                f"{total:.3f}"
            )
        answers.close(found, shapley.exact(game, n), 1e-3, what)
