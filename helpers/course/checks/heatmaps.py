"""Check the exercises on class activation maps."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from helpers.course.checks import answers
from helpers.explain import explain
from helpers.measure import localisation
from helpers.nets import models


def grad_cam(answer: Callable[[nn.Module, nn.Module, Tensor, int], Tensor]) -> None:
    """Exercise 4.1: ``answer(network, layer, image, c)`` equals Grad-CAM of the library."""
    torch.manual_seed(0)
    classifier = models.build("shapes_net", tuple("abcdefghij"), 64)
    image = torch.rand(1, 3, 64, 64)
    inputs = classifier.preprocess(image)
    # At layer2 the gradient differs from cell to cell, so that its mean matters.
    for name, c in (("layer3", 2), ("layer3", 7), ("layer2", 2)):
        layer = classifier.layer(name)
        found = answers.tensor("4.1", answer(classifier.network, layer, inputs, c), (64, 64))
        (expected,) = explain("gradcam", classifier, image, torch.tensor([c]), name)
        if found.min() < 0:
            answers.not_yet(
                "4.1", "there is negative heat: keep what speaks for the class, with a ReLU"
            )
        if abs(found.max() - 1) > 1e-3:
            answers.not_yet("4.1", "the hottest pixel must be 1: divide by the maximum")
        if (error := (found - expected).abs().max()) > 1e-4:
            answers.not_yet(
                "4.1",
                f"for class {c} the map differs by up to {error:.2f} from the library's: weights "
                "are the gradient's mean over height and width, before the ReLU",
            )
    answers.correct("4.1")


def heat_on_object(answer: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Exercise 4.2: ``answer(heatmaps, masks)`` gives the share of heat on each object."""
    torch.manual_seed(0)
    heatmaps, masks = torch.rand(3, 8, 8), torch.rand(3, 8, 8) < 0.4
    heatmaps[0] = masks[0].float()
    heatmaps[1] = 1.0
    found = answers.tensor("4.2", answer(heatmaps, masks), (3,))
    expected = localisation.energy_in_mask(heatmaps, masks)
    for i, what in enumerate(("a perfect map (share 1)", "a uniform map (the object's area)",
                              "a random map")):  # fmt: skip
        if not torch.isclose(found[i], expected[i], atol=1e-3):
            answers.not_yet(
                "4.2", f"{what} came out as {found[i]:.3f} instead of {expected[i]:.3f}"
            )
    answers.correct("4.2")


def hottest(answer: Callable[[Tensor, float], Tensor]) -> None:
    """Exercise 5.1: ``answer(heatmap, share)`` marks exactly that share of hottest pixels."""
    torch.manual_seed(0)
    heatmap = torch.rand(10, 12)
    ties = torch.zeros(10, 12)
    ties[:2] = 1
    for what, case, share in (("a random map", heatmap, 0.2), ("a map with ties", ties, 0.25)):
        mask = answers.tensor("5.1", answer(case.clone(), share), case.shape)
        if mask.dtype != torch.bool:
            answers.not_yet("5.1", f"the mask must be of type bool, not {mask.dtype}")
        wanted = round(share * case.numel())
        if int(mask.sum()) != wanted:
            answers.not_yet(
                "5.1",
                f"{what}: {int(mask.sum())} pixels are marked instead of {wanted} "
                "(a threshold alone can't do it where pixels are equal)",
            )
        if case[mask].min() < case[~mask].max():
            answers.not_yet("5.1", f"{what}: a pixel is marked that is colder than one that is not")
    answers.correct("5.1")


def ablation_weights(answer: Callable[[Tensor, Tensor, float], Tensor]) -> None:
    """Exercise 9.1: ``answer(activations, w, b)`` gives the AblationCAM weights [C]."""
    torch.manual_seed(0)
    activations, w, b = torch.rand(5, 3, 4), torch.randn(5), 1.5
    found = answers.tensor("9.1", answer(activations.clone(), w.clone(), b), (5,))
    score = (w * activations.mean(dim=(1, 2))).sum() + b
    expected = torch.stack([
        (score - ((w * a.mean(dim=(1, 2))).sum() + b)) / score
        for a in (activations * (1 - torch.eye(5)[k])[:, None, None] for k in range(5))
    ])  # fmt: skip
    if torch.allclose(found, expected * score, atol=1e-4):
        answers.not_yet("9.1", "these are the losses; divide them by the score")
    if torch.allclose(found * (score - b), expected * score, atol=1e-4):
        answers.not_yet("9.1", "the score has a bias: y = sum of the contributions + b")
    answers.close("9.1", found, expected, 1e-4, "the weights of a random network")
    answers.correct("9.1")
