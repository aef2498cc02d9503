"""Check the exercises on sanity checks, faithfulness and Shapley values."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from helpers.course.checks import answers
from helpers.explain import shapley


def randomise_from_the_top(answer: Callable[[nn.Module, list[str], Callable], Tensor]) -> None:
    """Exercise 12.1: ``answer(network, layers, explain)`` randomises a copy layer by layer."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), nn.Flatten(), nn.Linear(16, 5))
    trained = {name: value.clone() for name, value in network.state_dict().items()}
    layers = ["3", "1", "0"]

    def fingerprint(seen: nn.Module) -> Tensor:
        """Return how far each of the layers is from the trained one."""
        now = seen.state_dict()
        gaps = [(now[f"{name}.weight"] - trained[f"{name}.weight"]).abs().max() for name in layers]
        return torch.stack(gaps)[:, None]

    found = answers.tensor("12.1", answer(network, list(layers), fingerprint), (3, 3, 1))
    if any(not torch.equal(network.state_dict()[name], value) for name, value in trained.items()):
        answers.not_yet("12.1", "the network itself was changed: work on copy.deepcopy(network)")
    for step, name in enumerate(layers):
        changed = found[step, :, 0] > 0
        if not changed[step]:
            answers.not_yet(
                "12.1", f"map {step} must show the network with layer {name!r} randomised"
            )
        if not changed[:step].all():
            answers.not_yet(
                "12.1",
                f"map {step}: the layers above {name!r} are trained again; a cascade keeps what "
                "was randomised before",
            )
        if changed[step + 1 :].any():
            answers.not_yet("12.1", f"map {step}: layers below {name!r} must still be the trained")
    answers.correct("12.1")


def deletion_curve(answer: Callable[[Callable, Tensor, Tensor, Tensor, int], Tensor]) -> None:
    """Exercise 12.2: ``answer(score, image, heatmap, cover, steps)`` gives the deletion curve."""
    torch.manual_seed(0)
    weights = torch.rand(3, 8, 10)
    image, cover = torch.rand(3, 8, 10), torch.tensor([0.5, 0.4, 0.3]).view(3, 1, 1)
    heatmap = torch.rand(8, 10) ** 3

    def score(images: Tensor) -> Tensor:
        return (weights * images).sum(dim=(1, 2, 3))

    steps = 5
    found = answers.tensor(
        "12.2", answer(score, image.clone(), heatmap.clone(), cover, steps), (steps + 1,)
    )
    order = heatmap.flatten().argsort(descending=True)
    lost = (weights * (image - cover)).sum(dim=0).flatten()[order].view(steps, -1).sum(dim=1)
    expected = score(image[None]) - torch.cat([torch.zeros(1), lost.cumsum(dim=0)])
    if abs(found[0] - expected[0]) > 1e-3:
        answers.not_yet(
            "12.2", "the curve begins with the whole image: at step 0 nothing is hidden"
        )
    if abs(found[-1] - expected[-1]) > 1e-3:
        answers.not_yet(
            "12.2", "the curve ends with the cover alone: at the last step all is hidden"
        )
    answers.close("12.2", found, expected, 1e-3, "the curve of a linear model")
    answers.correct("12.2")


def shapley_values(answer: Callable[[Callable[[frozenset], float], int], Tensor]) -> None:
    """Exercise 12.3: ``answer(v, n)`` gives the Shapley values of a game of n players."""
    torch.manual_seed(0)
    for n, what in ((3, "the glove game"), (3, "a random game of three"), (4, "one of four")):
        worth = torch.rand(2**n, dtype=torch.float64)
        if what == "the glove game":  # a left glove (0) and a right one (1 or 2) are worth 1
            worth = torch.tensor([float(i & 1 and i > 1) for i in range(2**n)])
        place = 2 ** torch.arange(n)

        def value(coalition, worth=worth) -> float:
            return float(worth[sum(2**player for player in set(coalition))])

        def game(coalitions: Tensor, worth=worth, place=place) -> Tensor:
            return worth[(coalitions.long() * place).sum(dim=1)]

        found = answers.tensor("12.3", answer(value, n), (n,))
        expected = shapley.exact(game, n)
        total = value(range(n)) - value(())
        if abs(float(found.sum()) - total) > 1e-3:
            answers.not_yet(
                "12.3",
                f"{what}: the values add up to {found.sum():.3f}, but the coalition of all gains "
                f"{total:.3f}",
            )
        answers.close("12.3", found, expected, 1e-3, what)
    answers.correct("12.3")
