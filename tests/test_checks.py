"""Checkers: the notebooks' own solutions pass; stubs and plausible mistakes don't."""

import re
from itertools import pairwise
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from helpers import checks
from helpers.checks import NotYet

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))


def solutions():
    """Yield (notebook, checker, code) for every solution cell of the notebooks."""
    for path in NOTEBOOKS:
        for cell in nbformat.read(path, 4).cells:
            if "### BEGIN SOLUTION" in cell.source:
                (checker,) = re.findall(r"^checks\.(\w+)\(", cell.source, re.MULTILINE)
                yield path.stem, checker, cell.source


SOLUTIONS = list(solutions())
CHECKERS = {checker: code for _, checker, code in SOLUTIONS}
EXERCISES = {
    name: re.match(r"Exercise (\d+\.\d+): ", checker.__doc__)[1]
    for name, checker in vars(checks).items()
    if name in checks.__all__ and name != "NotYet"
}


def namespace():
    return {"np": np, "torch": torch, "nn": nn, "Tensor": Tensor, "checks": checks}


def test_every_exercise_has_a_checker_and_every_checker_has_mistakes_to_reject():
    assert set(CHECKERS) <= set(EXERCISES)
    there = {int(path.stem[:2]) for path in NOTEBOOKS}
    assert {c for c, e in EXERCISES.items() if int(e.split(".")[0]) in there} == set(CHECKERS)
    assert set(CHECKERS) <= set(MISTAKES) <= set(EXERCISES)


@pytest.mark.parametrize(("notebook", "checker", "code"), SOLUTIONS, ids=[s[1] for s in SOLUTIONS])
def test_the_solution_in_the_notebook_is_correct(notebook, checker, code, capsys):
    exec(code, namespace())
    assert capsys.readouterr().out == f"Exercise {EXERCISES[checker]}: correct.\n"
    assert EXERCISES[checker].startswith(f"{int(notebook[:2])}.")


def stub_of(code, body):
    """Return the cell with its solution replaced, as in a student edition."""
    pattern = r"( *)### BEGIN SOLUTION\n.*?### END SOLUTION"
    stub, n = re.subn(pattern, rf"\g<1>{body}", code, flags=re.DOTALL)
    assert n == 1
    return stub


@pytest.mark.parametrize("body", ["pass", "return None", "return ...", "return 'later'"])
@pytest.mark.parametrize("checker", list(CHECKERS))
def test_a_stub_is_not_yet_right(checker, body, one_line):
    with pytest.raises(NotYet) as error:
        exec(stub_of(CHECKERS[checker], body), namespace())
    one_line(error, f"Exercise {EXERCISES[checker]} ", "must return")


@pytest.mark.parametrize("checker", list(CHECKERS))
def test_a_stub_that_raises_says_so_itself(checker):
    with pytest.raises((NotYet, NotImplementedError)):
        exec(stub_of(CHECKERS[checker], "raise NotImplementedError"), namespace())


# ---- plausible mistakes ------------------------------------------------------------------------


def normal_interval(hits, n):
    p = hits / n
    spread = 1.96 * (p * (1 - p) / n) ** 0.5
    return p - spread, p + spread


def wilson(hits, n, z=1.96, extra=1.0):
    p = hits / n
    centre, spread = p + z**2 / (2 * n), z * (p * (1 - p) / n + extra * z**2 / (4 * n**2)) ** 0.5
    return (centre - spread) / (1 + z**2 / n), (centre + spread) / (1 + z**2 / n)


def wilson_undivided(hits, n):
    return tuple(x * (1 + 1.96**2 / n) for x in wilson(hits, n))


def ece(confidence, correct, bins=10, weighted=True, gap=np.abs):
    which = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps, shares = [], []
    for b in np.unique(which):
        inside = which == b
        gaps.append(gap(correct[inside].mean() - confidence[inside].mean()))
        shares.append(inside.mean())
    return np.sum(np.multiply(gaps, shares)) if weighted else np.mean(gaps)


def ece_last_bin_lost(confidence, correct):
    edges = np.linspace(0, 1, 11)
    inside = [(confidence >= a) & (confidence < b) for a, b in pairwise(edges)]
    return sum(i.mean() * abs(correct[i].mean() - confidence[i].mean()) for i in inside if i.any())


def largest(weights):
    return weights.abs().amax(dim=(1, 2, 3), keepdim=True)


def min_max(weights):
    low, high = (f(dim=(1, 2, 3), keepdim=True) for f in (weights.amin, weights.amax))
    return (weights - low) / (high - low)


def recorded(network, layer, images, keep_hook=False, keep_graph=False, which=None):
    outputs = []
    handle = (which or layer).register_forward_hook(lambda _m, _i, output: outputs.append(output))
    with torch.set_grad_enabled(keep_graph):
        network(images)
    if not keep_hook:
        handle.remove()
    return outputs[0]


def selectivity(activations, masks, normalised=True, per_image=False):
    inside = masks[:, None].float()
    if per_image:
        mean_in = ((activations * inside).sum((2, 3)) / inside.sum((2, 3))).mean(0)
        outside = 1 - inside
        mean_out = ((activations * outside).sum((2, 3)) / outside.sum((2, 3))).mean(0)
    else:
        mean_in = (activations * inside).sum((0, 2, 3)) / inside.sum()
        mean_out = (activations * (1 - inside)).sum((0, 2, 3)) / (1 - inside).sum()
    return (mean_in - mean_out) / ((mean_in + mean_out) if normalised else 1)


def heat(network, layer, image, c, relu=True, average=True, scaled=True, first_relu=False):
    maps = []
    handle = layer.register_forward_hook(lambda _m, _i, output: maps.append(output))
    score = network(image.requires_grad_())[0, c]
    handle.remove()
    (alpha,) = torch.autograd.grad(score, maps[0])
    if average:
        alpha = alpha.mean(dim=(2, 3), keepdim=True)
    if first_relu:
        alpha = alpha.relu()
    found = (alpha * maps[0]).sum(dim=1, keepdim=True).detach()
    found = found.relu() if relu else found
    found = F.interpolate(found, image.shape[2:], mode="bilinear")[0, 0]
    found = found / found.abs().max() if scaled else found
    return found


def marked(heatmap, share):
    mask = torch.zeros(heatmap.numel(), dtype=torch.bool)
    mask[heatmap.flatten().argsort(descending=True)[: round(share * heatmap.numel())]] = True
    return mask.view(heatmap.shape)


MISTAKES = {
    "wilson_interval": {
        "normal approximation": normal_interval,
        "without the division": wilson_undivided,
        "another confidence": lambda hits, n: wilson(hits, n, z=1.645),
        "the second term forgotten": lambda hits, n: wilson(hits, n, extra=0.0),
        "reversed": lambda hits, n: wilson(hits, n)[::-1],
        "in percent": lambda hits, n: tuple(100 * x for x in wilson(hits, n)),
        "only the lower bound": lambda hits, n: wilson(hits, n)[0],
    },
    "calibration_error": {
        "unweighted": lambda p, y: ece(p, y, weighted=False),
        "five bins": lambda p, y: ece(p, y, bins=5),
        "without absolute value": lambda p, y: ece(p, y, gap=lambda x: x),
        "squared": lambda p, y: ece(p, y, gap=np.square),
        "one bin": lambda p, y: abs(y.mean() - p.mean()),
        "a confidence of 1 in no bin": ece_last_bin_lost,
    },
    "normalise_filters": {
        "from minimum to maximum": min_max,
        "per layer": lambda w: 0.5 + w / w.abs().max() / 2,
        "zero at zero": lambda w: w / largest(w),
        "halved twice": lambda w: 0.5 + w / largest(w) / 4,
        "clipped": lambda w: (w + 0.5).clip(0, 1),
        "per channel": lambda w: 0.5 + w / w.abs().amax(dim=(2, 3), keepdim=True) / 2,
        "NaN for a filter of zeros": lambda w: 0.5 + w / largest(w) / 2,
    },
    "colour_share": {
        "the factor 3 forgotten": lambda w: (
            1 - (w.mean(1) ** 2).sum((1, 2)) / (w**2).sum((1, 2, 3))
        ),
        "the grey share": lambda w: 3 * (w.mean(1) ** 2).sum((1, 2)) / (w**2).sum((1, 2, 3)),
        "without squares": lambda w: 1 - 3 * w.mean(1).abs().sum((1, 2)) / w.abs().sum((1, 2, 3)),
        "not divided": lambda w: (w**2).sum((1, 2, 3)) - 3 * (w.mean(1) ** 2).sum((1, 2)),
        "over all filters": lambda w: (1 - 3 * (w.mean(1) ** 2).sum() / (w**2).sum()).expand(
            len(w)
        ),
    },
    "record_activations": {
        "the hook forgotten": lambda n, x, i: recorded(n, x, i, keep_hook=True),
        "no_grad forgotten": lambda n, x, i: recorded(n, x, i, keep_graph=True),
        "the network's output": lambda n, x, i: n(i).detach(),
        "the layer before": lambda n, x, i: recorded(n, x, i, which=n[0]),
        "one image only": lambda n, x, i: recorded(n, x, i[:1]),
    },
    "inside_outside": {
        "not normalised": lambda a, m: selectivity(a, m, normalised=False),
        "image by image": lambda a, m: selectivity(a, m, per_image=True),
        "outside minus inside": lambda a, m: selectivity(a, ~m),
        "sums instead of means": lambda a, m: (
            ((a * m[:, None]).sum((0, 2, 3)) - (a * ~m[:, None]).sum((0, 2, 3))) / a.sum((0, 2, 3))
        ),
        "over all channels": lambda a, m: selectivity(a.mean(1, True), m).expand(a.shape[1]),
    },
    "grad_cam": {
        "the ReLU forgotten": lambda n, x, i, c: heat(n, x, i, c, relu=False),
        "the gradient not averaged": lambda n, x, i, c: heat(n, x, i, c, average=False),
        "not scaled": lambda n, x, i, c: heat(n, x, i, c, scaled=False),
        "the ReLU on the weights": lambda n, x, i, c: heat(n, x, i, c, first_relu=True),
        "the predicted class": lambda n, x, i, c: heat(n, x, i, int(n(i).argmax())),
        "always the first class": lambda n, x, i, c: heat(n, x, i, 0),
        "upside down": lambda n, x, i, c: heat(n, x, i, c).flip(0),
        "too small": lambda n, x, i, c: heat(n, x, i, c)[::8, ::8],
    },
    "heat_on_object": {
        "the mean": lambda h, m: (h * m).mean(dim=(1, 2)),
        "the sum": lambda h, m: (h * m).sum(dim=(1, 2)),
        "over all images": lambda h, m: ((h * m).sum() / h.sum()).expand(len(h)),
        "the mean heat on the object": lambda h, m: (h * m).sum((1, 2)) / m.sum((1, 2)),
        "off the object": lambda h, m: (h * ~m).sum((1, 2)) / h.sum((1, 2)),
        "always the whole map": lambda h, m: torch.ones(len(h)),
        "the overlap of areas": lambda h, m: ((h > 0.5) & m).sum((1, 2)) / (h > 0.5).sum((1, 2)),
    },
    "hottest": {
        "a threshold": lambda h, share: h >= h.flatten().quantile(1 - share),
        "a share of the maximum": lambda h, share: h > 1 - share,
        "the coldest": lambda h, share: marked(-h, share),
        "the others": lambda h, share: ~marked(h, share),
        "numbers instead of a mask": lambda h, share: marked(h, share).float(),
        "one pixel too many": lambda h, share: marked(h, share + 1 / h.numel()),
    },
}


@pytest.mark.parametrize(
    ("checker", "mistake"), [(c, m) for c, mistakes in MISTAKES.items() for m in mistakes]
)
def test_a_plausible_mistake_is_not_right(checker, mistake, one_line, capsys):
    with pytest.raises(NotYet) as error:
        getattr(checks, checker)(MISTAKES[checker][mistake])
    one_line(error, f"Exercise {EXERCISES[checker]} is not right yet: ")
    assert "correct." not in capsys.readouterr().out


# ---- other right answers -----------------------------------------------------------------------


def test_other_right_answers_are_accepted(capsys):
    checks.wilson_interval(lambda hits, n: list(wilson(hits, n, z=1.959964)))
    checks.calibration_error(lambda p, y: torch.tensor(ece(p, y)))
    checks.colour_share(
        lambda w: ((w - w.mean(1, keepdim=True)) ** 2).sum((1, 2, 3)) / (w**2).sum((1, 2, 3))
    )
    checks.record_activations(lambda n, x, i: recorded(n, x, i).clone())
    checks.heat_on_object(
        lambda h, m: torch.stack([a[b].sum() / a.sum() for a, b in zip(h, m, strict=True)])
    )
    checks.inside_outside(
        lambda a, m: torch.stack([
            (c[m].mean() - c[~m].mean()) / (c[m].mean() + c[~m].mean()) for c in a.unbind(1)
        ])
    )  # fmt: skip
    checks.hottest(marked)
    assert capsys.readouterr().out.count("correct.") == 7


def test_grad_cam_as_the_paper_writes_it_is_accepted(capsys):
    """Without the library's extra shift of the minimum to zero."""
    checks.grad_cam(heat)
    assert "Exercise 4.1: correct." in capsys.readouterr().out
