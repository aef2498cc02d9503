"""Check the exercises: say "correct", or say in one line what is not right yet.

Every checker takes the student's function or answer and tries it on cases with known results.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from helpers import cam, intervals, localisation, models
from helpers.errors import WorkbookError


class NotYet(WorkbookError):
    """An exercise is not solved yet; the message says what to look at."""


def wilson_interval(answer: Callable[[int, int], tuple[float, float]]) -> None:
    """Exercise 1.1: ``answer(hits, n)`` gives the Wilson interval (low, high)."""
    for hits, n in ((90, 100), (9013, 10000), (3, 3), (0, 5)):
        low, high = _numbers("1.1", answer(hits, n), 2)
        expected = intervals.proportion(hits, n)
        p = hits / n
        if hits not in (0, n) and abs(low - (p - 1.96 * (p * (1 - p) / n) ** 0.5)) < 1e-4:
            _not_yet("1.1", "this is the interval p ± 1.96 √(p(1-p)/n); Wilson's is another")
        _close("1.1", (low, high), expected[1:3], 1e-3, f"the interval of {hits} hits in {n}")
    _correct("1.1")


def calibration_error(answer: Callable[[np.ndarray, np.ndarray], float]) -> None:
    """Exercise 1.2: ``answer(confidence, correct)`` gives the ECE over ten equal bins."""
    rng = np.random.default_rng(0)
    sure = np.full(200, 0.95)
    _close("1.2", _numbers("1.2", answer(sure, np.arange(200) < 100), 1), [0.45], 1e-6,
           "a network that is 95 % sure and right half of the time")  # fmt: skip
    confidence = rng.uniform(0.2, 1, 500)
    # Too timid and too bold by turns, so that gaps do not add up over wider bins.
    bold = (confidence * 10).astype(int) % 2 == 1
    correct = rng.random(500) < np.where(bold, confidence - 0.2, confidence + 0.2)
    confidence[:25], correct[:25] = 1.0, False  # exactly 1 belongs to the last bin
    bins = np.minimum((confidence * 10).astype(int), 9)
    gaps = [
        np.sum(bins == b) / 500 * abs(correct[bins == b].mean() - confidence[bins == b].mean())
        for b in np.unique(bins)
    ]
    _close("1.2", _numbers("1.2", answer(confidence, correct), 1), [sum(gaps)], 1e-6,
           "bins of different sizes (did you weight each gap by the bin's share?)")  # fmt: skip
    _correct("1.2")


def normalise_filters(answer: Callable[[Tensor], Tensor]) -> None:
    """Exercise 2.1: ``answer(weights)`` scales each filter [C, h, w] to [0, 1], zero at 0.5."""
    torch.manual_seed(0)
    weights = torch.randn(4, 3, 5, 5) * torch.tensor([0.01, 0.1, 1, 10]).view(4, 1, 1, 1) + 0.002
    scaled = _tensor("2.1", answer(weights.clone()), weights.shape)
    if scaled.min() < 0 or scaled.max() > 1:
        _not_yet("2.1", f"values must lie in [0, 1], not {scaled.min():.2f} to {scaled.max():.2f}")
    reach = (scaled - 0.5).abs().amax(dim=(1, 2, 3))
    if not torch.allclose(reach, torch.full((4,), 0.5), atol=1e-3):
        _not_yet("2.1", "every filter must reach 0 or 1 by its own largest weight")
    expected = 0.5 + weights / weights.abs().amax(dim=(1, 2, 3), keepdim=True) / 2
    if not torch.allclose(scaled, expected, atol=1e-3):
        _not_yet("2.1", "a weight of zero must become 0.5: divide by the largest absolute weight")
    zero = _tensor("2.1", answer(torch.zeros(1, 3, 3, 3)), (1, 3, 3, 3))
    if not torch.allclose(zero, torch.full_like(zero, 0.5)):
        _not_yet("2.1", "a filter of zeros must become grey (0.5), not NaN")
    _correct("2.1")


def colour_share(answer: Callable[[Tensor], Tensor]) -> None:
    """Exercise 2.2: ``answer(weights)`` gives the share of a filter's energy that is not grey."""
    torch.manual_seed(0)
    weights = torch.randn(4, 3, 5, 5)
    weights[0] = weights[0, :1]
    weights[1] -= weights[1].mean(dim=0)
    weights[3] *= 10
    found = _tensor("2.2", answer(weights.clone()), (4,))
    grey = 3 * (weights.mean(dim=1) ** 2).sum(dim=(1, 2))
    expected = 1 - grey / (weights**2).sum(dim=(1, 2, 3))
    for i, what in enumerate(("a grey filter (0)", "a filter of pure colour (1)",
                              "a random filter", "a strong random filter")):  # fmt: skip
        if not torch.isclose(found[i], expected[i], atol=1e-3):
            _not_yet("2.2", f"{what} came out as {found[i]:.3f} instead of {expected[i]:.3f}")
    _correct("2.2")


def record_activations(answer: Callable[[nn.Module, nn.Module, Tensor], Tensor]) -> None:
    """Exercise 3.1: ``answer(network, layer, images)`` returns the layer's output."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3)).eval()
    images = torch.rand(2, 3, 8, 8)
    with torch.no_grad():
        expected = network[1](network[0](images))
    output = answer(network, network[1], images)
    found = _tensor("3.1", output, expected.shape)
    if not torch.allclose(found, expected, atol=1e-5):
        _not_yet("3.1", "this is not the output of the layer that was asked for")
    if any(module._forward_hooks for module in network.modules()):
        _not_yet("3.1", "the hook is still on the layer: call handle.remove() at the end")
    if output.requires_grad:
        _not_yet("3.1", "nobody needs a gradient here: run the network under torch.no_grad()")
    _correct("3.1")


def inside_outside(answer: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Exercise 3.2: ``answer(activations, masks)`` gives (in - out) / (in + out) per channel."""
    torch.manual_seed(0)
    # Images differ in object size and in strength, so that averaging image by image shows.
    masks = torch.rand(6, 8, 8) < torch.linspace(0.1, 0.6, 6).view(6, 1, 1)
    activations = torch.rand(6, 5, 8, 8) * torch.arange(1, 7).view(6, 1, 1, 1)
    activations[:, 0] = masks.float()
    activations[:, 1] = (~masks).float()
    activations[:, 2] = 1.0
    found = _tensor("3.2", answer(activations, masks), (5,))
    inside = torch.stack([activations[:, c][masks].mean() for c in range(5)])
    outside = torch.stack([activations[:, c][~masks].mean() for c in range(5)])
    expected = (inside - outside) / (inside + outside)
    for channel, what in ((0, "lives on the object (index 1)"), (1, "avoids the object (index -1)"),
                          (2, "is the same everywhere (index 0)"), (4, "is random")):  # fmt: skip
        if not torch.isclose(found[channel], expected[channel], atol=1e-3):
            _not_yet("3.2", f"the index of a channel that {what} came out as {found[channel]:.2f}")
    _correct("3.2")


def grad_cam(answer: Callable[[nn.Module, nn.Module, Tensor, int], Tensor]) -> None:
    """Exercise 4.1: ``answer(network, layer, image, c)`` equals Grad-CAM of the library."""
    torch.manual_seed(0)
    classifier = models.build("shapes_net", tuple("abcdefghij"), 64)
    image = torch.randn(1, 3, 64, 64)
    # At layer2 the gradient differs from cell to cell, so that its mean matters.
    for name, c in (("layer3", 2), ("layer3", 7), ("layer2", 2)):
        layer = classifier.layer(name)
        found = _tensor("4.1", answer(classifier.network, layer, image, c), (64, 64))
        expected = cam.explain("gradcam", classifier.network, layer, image, [c])[0]
        if found.min() < 0:
            _not_yet("4.1", "there is negative heat: keep what speaks for the class, with a ReLU")
        if abs(found.max() - 1) > 1e-3:
            _not_yet("4.1", "the hottest pixel must be 1: divide by the maximum")
        if (error := (found - expected).abs().max()) > 1e-4:
            _not_yet(
                "4.1",
                f"for class {c} the map differs by up to {error:.2f} from the library's: weights "
                "are the gradient's mean over height and width, before the ReLU",
            )
    _correct("4.1")


def heat_on_object(answer: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Exercise 4.2: ``answer(heatmaps, masks)`` gives the share of heat on each object."""
    torch.manual_seed(0)
    heatmaps, masks = torch.rand(3, 8, 8), torch.rand(3, 8, 8) < 0.4
    heatmaps[0] = masks[0].float()
    heatmaps[1] = 1.0
    found = _tensor("4.2", answer(heatmaps, masks), (3,))
    expected = localisation.energy_in_mask(heatmaps, masks)
    for i, what in enumerate(("a perfect map (share 1)", "a uniform map (the object's area)",
                              "a random map")):  # fmt: skip
        if not torch.isclose(found[i], expected[i], atol=1e-3):
            _not_yet("4.2", f"{what} came out as {found[i]:.3f} instead of {expected[i]:.3f}")
    _correct("4.2")


def hottest(answer: Callable[[Tensor, float], Tensor]) -> None:
    """Exercise 5.1: ``answer(heatmap, share)`` marks exactly that share of hottest pixels."""
    torch.manual_seed(0)
    heatmap = torch.rand(10, 12)
    ties = torch.zeros(10, 12)
    ties[:2] = 1
    for what, case, share in (("a random map", heatmap, 0.2), ("a map with ties", ties, 0.25)):
        mask = _tensor("5.1", answer(case.clone(), share), case.shape)
        if mask.dtype != torch.bool:
            _not_yet("5.1", f"the mask must be of type bool, not {mask.dtype}")
        wanted = round(share * case.numel())
        if int(mask.sum()) != wanted:
            _not_yet("5.1", f"{what}: {int(mask.sum())} pixels are marked instead of {wanted} "
                     "(a threshold alone can't do it where pixels are equal)")  # fmt: skip
        if case[mask].min() < case[~mask].max():
            _not_yet("5.1", f"{what}: a pixel is marked that is colder than one that is not")
    _correct("5.1")


def ablation_weights(answer: Callable[[Tensor, Tensor, float], Tensor]) -> None:
    """Exercise 9.1: ``answer(activations, w, b)`` gives the AblationCAM weights [C]."""
    torch.manual_seed(0)
    activations, w, b = torch.rand(5, 3, 4), torch.randn(5), 1.5
    found = _tensor("9.1", answer(activations.clone(), w.clone(), b), (5,))
    score = (w * activations.mean(dim=(1, 2))).sum() + b
    expected = torch.stack([
        (score - ((w * a.mean(dim=(1, 2))).sum() + b)) / score
        for a in (activations * (1 - torch.eye(5)[k])[:, None, None] for k in range(5))
    ])  # fmt: skip
    if torch.allclose(found, expected * score, atol=1e-4):
        _not_yet("9.1", "these are the losses; divide them by the score")
    if torch.allclose(found * (score - b), expected * score, atol=1e-4):
        _not_yet("9.1", "the score has a bias: y = sum of the contributions + b")
    _close("9.1", found, expected, 1e-4, "the weights of a random network")
    _correct("9.1")


def tokens_to_grid(answer: Callable[[Tensor, int, int], Tensor]) -> None:
    """Exercise 10.1: ``answer(tokens, h, w)`` lays tokens [N, 1 + h*w, C] into [N, C, h, w]."""
    tokens = torch.arange(2 * 7 * 4).float().view(2, 7, 4)
    found = _tensor("10.1", answer(tokens.clone(), 2, 3), (2, 4, 2, 3))
    if not torch.equal(found[:, :, 0, 0], tokens[:, 1]):
        _not_yet("10.1", "the first place must hold token 1: token 0 is the class token")
    if not torch.equal(found[:, :, 0, 2], tokens[:, 3]):
        _not_yet("10.1", "the places go row by row, and the token's numbers become channels")
    if not torch.equal(found[:, :, 1, 2], tokens[:, 6]):
        _not_yet("10.1", "the last place must hold the last token")
    _correct("10.1")


def rollout(answer: Callable[[list[Tensor]], Tensor]) -> None:
    """Exercise 10.2: ``answer(attentions)`` gives the shares [N, T - 1] of attention rollout."""
    torch.manual_seed(0)
    layers = [torch.rand(2, 5, 5).softmax(dim=-1) for _ in range(3)]
    found = _tensor("10.2", answer([layer.clone() for layer in layers]), (2, 4))
    eye = torch.eye(5)
    first, second, third = ((layer + eye) / 2 for layer in layers)
    if torch.allclose(found, (layers[2] @ layers[1] @ layers[0])[:, 0, 1:], atol=1e-5):
        _not_yet("10.2", "the residual connection is missing: mix in the identity")
    if torch.allclose(found, (first @ second @ third)[:, 0, 1:], atol=1e-5):
        _not_yet("10.2", "the order is turned round: the last layer reads from the one before")
    if not torch.allclose(found, (third @ second @ first)[:, 0, 1:], atol=1e-5):
        _not_yet("10.2", "row 0 of the product of (A + I) / 2, last layer leftmost, is asked for")
    _correct("10.2")


# ---- what checkers share -----------------------------------------------------------------------


def _correct(exercise: str) -> None:
    print(f"Exercise {exercise}: correct.")


def _not_yet(exercise: str, why: str) -> None:
    raise NotYet(f"Exercise {exercise} is not right yet: {why}")


def _numbers(exercise: str, answer: Any, n: int) -> np.ndarray:
    try:
        values = np.atleast_1d(np.asarray(answer, dtype=float))
    except (TypeError, ValueError):
        values = np.array([])
    if values.shape != (n,) or not np.isfinite(values).all():
        wanted = "a number" if n == 1 else f"{n} numbers"
        _not_yet(exercise, f"the function must return {wanted}, not {answer!r}")
    return values


def _tensor(exercise: str, answer: Any, shape: tuple[int, ...]) -> Tensor:
    if not isinstance(answer, Tensor) or tuple(answer.shape) != tuple(shape):
        got = f"shape {list(answer.shape)}" if isinstance(answer, Tensor) else repr(answer)[:40]
        _not_yet(exercise, f"the function must return a tensor of shape {list(shape)}, not {got}")
    if not answer.isfinite().all():
        _not_yet(exercise, "the result has NaN or infinite values")
    return answer.detach()


def _close(exercise: str, found, expected, tolerance: float, what: str) -> None:
    if not np.allclose(found, expected, atol=tolerance):
        _not_yet(
            exercise,
            f"{what}: got {np.round(found, 4).tolist()}, expected {np.round(expected, 4).tolist()}",
        )
