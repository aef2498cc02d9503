"""Checkers: the notebooks' own solutions pass; stubs and plausible mistakes don't."""

import re
from copy import deepcopy
from itertools import combinations, pairwise, permutations
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from helpers.course import checks
from helpers.course.checks import NotYet

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


def distance(states):
    return 1 - np.sqrt(states.mean(axis=1))


def ridge(states, y, near, alpha, centred=True, penalised=False):
    x, target = states, y
    if centred:
        x, target = x - np.average(x, 0, near), y - np.average(y, weights=near)
    if penalised:
        x, target = np.column_stack([np.ones(len(y)), states]), y
    moments = (x * near[:, None]).T @ x
    weights = np.linalg.solve(moments + alpha * np.eye(len(moments)), x.T @ (near * target))
    if penalised:
        return weights[1:], weights[0]
    return weights, float(np.average(y, weights=near) - np.average(states, 0, near) @ weights)


def front(seconds, ious, strict=False):
    better = np.greater if strict else np.greater_equal
    return np.array([
        not any(
            better(t, s) and better(j, i) and (strict or s < t or j > i)
            for s, j in zip(seconds, ious, strict=True)
        )
        for t, i in zip(seconds, ious, strict=True)
    ])  # fmt: skip


def randomised(network, layers, explain, copied=True, cumulative=True, last=None):
    start = deepcopy(network) if copied else network
    maps, step = [], start
    for name in layers if last is None else layers[:last]:
        step = step if cumulative else deepcopy(start)
        step.get_submodule(name).reset_parameters()
        maps.append(explain(step))
    return torch.stack(maps)


def explained_too_early(network, layers, explain):
    step, maps = deepcopy(network), []
    for name in layers:
        maps.append(explain(step))
        step.get_submodule(name).reset_parameters()
    return torch.stack(maps)


def deletion(score, image, heat, cover, steps, band=False, include_start=True, other=None):
    rank = heat.flatten().argsort(descending=True).argsort().view_as(heat)
    curve = []
    for t in range(0 if include_start else 1, steps + 1):
        gone = rank < t * heat.numel() // steps
        if band:
            gone &= rank >= (t - 1) * heat.numel() // steps
        curve.append(score(torch.where(gone, cover if other is None else other, image)[None])[0])
    return torch.stack(curve)


def deletion_by_threshold(score, image, heat, cover, steps):
    levels = [heat.max() * (1 - t / steps) for t in range(steps + 1)]
    return torch.stack([score(torch.where(heat > x, cover, image)[None])[0] for x in levels])


def shapley(v, n, orders=None, divide=True):
    gains, orders = torch.zeros(n), list(orders or permutations(range(n)))
    for order in orders:
        for place, player in enumerate(order):
            before = frozenset(order[:place])
            gains[player] += v(before | {player}) - v(before)
    return gains / len(orders) if divide else gains


def banzhaf(v, n):
    subsets = [frozenset(c) for size in range(n) for c in combinations(range(n), size)]
    gains = [[v(s | {i}) - v(s) for s in subsets if i not in s] for i in range(n)]
    return torch.tensor(gains).mean(dim=1)


def alone(v, n):
    return torch.tensor([v(frozenset({i})) - v(frozenset()) for i in range(n)])


def left_out(v, n):
    everyone = frozenset(range(n))
    return torch.tensor([v(everyone) - v(everyone - {i}) for i in range(n)])


def unit_iou(maps, concept, share, over=None):
    """Return the IoU, or with ``over`` another ratio of (intersection, unit, concept)."""
    on = maps > torch.quantile(maps.flatten(), 1 - share)
    both, unit, truth = ((x).sum().item() for x in (on & concept, on, concept))
    return both / (over or (lambda b, u, t: u + t - b))(both, unit, truth)


def iou_image_by_image(maps, concept, share):
    found = [unit_iou(m[None], c[None], share) for m, c in zip(maps, concept, strict=True)]
    return sum(found) / len(found)


def iou_thresholds_by_image(maps, concept, share):
    on = maps > torch.quantile(maps.flatten(1), 1 - share, dim=1)[:, None, None]
    return ((on & concept).sum() / (on | concept).sum()).item()


def log_prob(activations, share, p, top=None, factor=None, total=torch.sum):
    top = activations.argsort(descending=True)[: len(p)] if top is None else top
    factor = factor or (lambda s, p: 1 + p * (s - 1))
    return total(factor(share[top], p[:, None]).log(), dim=0)


def overlap(a, b, empty=float("nan")):
    joint = int((a | b).sum())
    return int((a & b).sum()) / joint if joint else empty


def as_large(heatmap, mask):
    return marked(heatmap, int(mask.sum()) / mask.numel())


def permuted(x, y, n=4000, one_sided=False, absolute=True, ranks=True, strict=False):
    rng = np.random.default_rng(0)
    a, b = (np.argsort(np.argsort(v)) if ranks else v for v in (x, y))
    rho = np.corrcoef(a, b)[0, 1]
    drawn = np.array([np.corrcoef(a, rng.permutation(b))[0, 1] for _ in range(n)])
    if absolute and not one_sided:
        rho, drawn = abs(rho), np.abs(drawn)
    return np.mean(drawn > rho if strict else drawn >= rho - 1e-9)


def text_weights(
    tokens,
    predict,
    masks,
    width,
    once=False,
    proximity=None,
    distance=None,
    ridge=1.0,
    centred=True,
):
    """Return the weights of LIME on a text, with one step done otherwise."""
    words = list(dict.fromkeys(tokens))
    kept = [[t for t in (words if once else tokens) if mask[words.index(t)]] for mask in masks]
    p = predict([" ".join(text) for text in kept])
    d = 1 - np.sqrt(masks.mean(axis=1)) if distance is None else distance(masks)
    pi = np.exp(-(d**2) / (2 * width**2)) if proximity is None else proximity(d, width)
    z, y = masks.astype(float), p
    if centred:
        z, y = z - np.average(z, axis=0, weights=pi), y - np.average(y, weights=pi)
    return np.linalg.solve(z.T @ (pi[:, None] * z) + ridge * np.eye(len(words)), z.T @ (pi * y))


def words_found(weights, deciding, n=None, signed=True, reverse=True):
    ranked = sorted(weights, key=lambda w: weights[w] if signed else abs(weights[w]))
    ranked = [w for w in (ranked[::-1] if reverse else ranked) if not signed or weights[w] > 0]
    return len(deciding & set(ranked[: n or len(deciding)])) / len(deciding)


def ablation(lost, b):
    return lost / (lost.sum() + b)


def grid_of(tokens, h, w):
    return tokens.reshape(len(tokens), h, w, -1).permute(0, 3, 1, 2)


def product(layers, identity=1.0):
    flow = torch.eye(layers[0].shape[-1])
    for attention in layers:
        flow = (attention + identity * torch.eye(attention.shape[-1])) / (1 + identity) @ flow
    return flow


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
    "unit_concept_iou": {
        "Dice": lambda m, c, share: unit_iou(m, c, share, over=lambda b, u, t: (u + t) / 2),
        "of the concept's pixels": lambda m, c, s: unit_iou(m, c, s, lambda b, u, t: max(t, 1)),
        "of the unit's pixels": lambda m, c, share: unit_iou(m, c, share, lambda b, u, t: u),
        "the union counted twice": lambda m, c, s: unit_iou(m, c, s, lambda b, u, t: u + t),
        "the mean over images": iou_image_by_image,
        "a threshold for each image": iou_thresholds_by_image,
        "a share of the maximum": lambda m, c, share: (
            ((m > (1 - share) * m.max()) & c).sum() / ((m > (1 - share) * m.max()) | c).sum()
        ),
        "the lower end": lambda m, c, share: unit_iou(-m, c, share),
    },
    "log_probability": {
        "WPMI": lambda a, s, p: log_prob(a, s, torch.ones_like(p)),
        "no logarithm": lambda a, s, p: log_prob(a, s, p).exp(),
        "the least exciting images": lambda a, s, p: log_prob(a, s, p, a.argsort()[: len(p)]),
        "the first images": lambda a, s, p: log_prob(a, s, p, torch.arange(len(p))),
        "p in the wrong order": lambda a, s, p: log_prob(a, s, p.flip(0)),
        "the mean": lambda a, s, p: log_prob(a, s, p, total=torch.mean),
        "p times s": lambda a, s, p: log_prob(a, s, p, factor=lambda s, p: p * s),
        "all images": lambda a, s, p: log_prob(a, s, p.new_full((len(a),), p.mean())),
    },
    "hottest": {
        "a threshold": lambda h, share: h >= h.flatten().quantile(1 - share),
        "a share of the maximum": lambda h, share: h > 1 - share,
        "the coldest": lambda h, share: marked(-h, share),
        "the others": lambda h, share: ~marked(h, share),
        "numbers instead of a mask": lambda h, share: marked(h, share).float(),
        "one pixel too many": lambda h, share: marked(h, share + 1 / h.numel()),
    },
    "proximity": {
        "the distance": lambda s, w: distance(s),
        "the root forgotten": lambda s, w: np.exp(-(distance(s) ** 2) / w**2),
        "the share shown": lambda s, w: np.exp(-((1 - s.mean(1)) ** 2) / w**2 / 2),
        "the width not squared": lambda s, w: np.exp(-(distance(s) ** 2) / w / 2),
        "the width forgotten": lambda s, w: np.exp(-(distance(s) ** 2) / 0.25**2 / 2),
        "far instead of near": lambda s, w: 1 - np.exp(-(distance(s) ** 2) / w**2 / 2),
        "normalised": lambda s, w: (p := np.exp(-(distance(s) ** 2) / w**2 / 2)) / p.sum(),
        "nothing shown is NaN": lambda s, w: np.where(
            s.any(1), np.exp(-(distance(s) ** 2) / w**2 / 2), np.nan
        ),
    },
    "weighted_ridge": {
        "unweighted": lambda s, y, p, a: ridge(s, y, np.ones(len(y)), a),
        "without intercept": lambda s, y, p, a: ridge(s, y, p, a, centred=False),
        "the intercept penalised": lambda s, y, p, a: ridge(s, y, p, a, penalised=True),
        "no penalty": lambda s, y, p, a: ridge(s, y, p, 0.0),
        "alpha always 1": lambda s, y, p, a: ridge(s, y, p, 1.0),
        "proximities squared": lambda s, y, p, a: ridge(s, y, p**2, a),
        "the mean as intercept": lambda s, y, p, a: (
            ridge(s, y, p, a)[0],
            np.average(y, weights=p),
        ),
        "weights only": lambda s, y, p, a: ridge(s, y, p, a)[0],
    },
    "pareto_front": {
        "all": lambda t, i: np.ones(len(t)),
        "only the best": lambda t, i: i == i.max(),
        "best and fastest": lambda t, i: (i == i.max()) | (t == t.min()),
        "slower is better": lambda t, i: front(-t, i),
        "ties are kept": lambda t, i: front(t, i, strict=True),
        "ties beat each other": lambda t, i: np.array(
            [not any((t <= t[k]) & (i >= i[k]) & (np.arange(len(t)) != k)) for k in range(len(t))]
        ),
        "better than the one before": lambda t, i: np.concatenate([[True], np.diff(i) > 0]),
        "the order": lambda t, i: np.flatnonzero(front(t, i)),
    },
    "randomise_from_the_top": {
        "the original changed": lambda n, ls, e: randomised(n, ls, e, copied=False),
        "each layer alone": lambda n, ls, e: randomised(n, ls, e, cumulative=False),
        "from the bottom": lambda n, ls, e: randomised(n, ls[::-1], e),
        "explained before randomising": explained_too_early,
        "all at once": lambda n, ls, e: randomised(n, ls, e)[-1:].expand(3, -1, -1),
        "the first map alone": lambda n, ls, e: randomised(n, ls, e, last=1),
        "nothing randomised": lambda n, ls, e: torch.stack([e(deepcopy(n))] * 3),
    },
    "deletion_curve": {
        "the coldest first": lambda s, i, h, c, t: deletion(s, i, -h, c, t),
        "one band at a time": lambda s, i, h, c, t: deletion(s, i, h, c, t, band=True),
        "black instead of the cover": lambda s, i, h, c, t: deletion(
            s, i, h, c, t, other=torch.zeros(())
        ),
        "without the whole image": lambda s, i, h, c, t: deletion(
            s, i, h, c, t, include_start=False
        ),
        "insertion": lambda s, i, h, c, t: deletion(s, c.expand_as(i), h, i, t),
        "backwards": lambda s, i, h, c, t: deletion(s, i, h, c, t).flip(0),
        "a threshold on the heat": deletion_by_threshold,
        "the area under it": lambda s, i, h, c, t: deletion(s, i, h, c, t).mean()[None],
    },
    "shapley_values": {
        "not divided": lambda v, n: shapley(v, n, divide=False),
        "one order": lambda v, n: shapley(v, n, orders=[range(n)]),
        "alone": alone,
        "left out of all": left_out,
        "Banzhaf's values": banzhaf,
        "shares of the total": lambda v, n: alone(v, n) / alone(v, n).sum().clamp(min=1e-9),
        "the total in equal parts": lambda v, n: torch.full((n,), v(frozenset(range(n))) / n),
    },
    "iou": {
        "two empty masks agree": lambda a, b: overlap(a, b, empty=1.0),
        "two empty masks disagree": lambda a, b: overlap(a, b, empty=0.0),
        "a division by zero": lambda a, b: int((a & b).sum()) / int((a | b).sum()),
        "NaN for one empty mask": lambda a, b: (
            overlap(a, b) if a.any() and b.any() else float("nan")
        ),
        "Dice": lambda a, b: float(2 * (a & b).sum() / (a.sum() + b.sum())),
        "the share of the first": lambda a, b: float((a & b).sum() / a.sum().clip(1)),
        "the common pixels counted twice": lambda a, b: float((a & b).sum() / (a.sum() + b.sum())),
        "the share of equal pixels": lambda a, b: float((a == b).float().mean()),
    },
    "equal_area": {
        "half of the maximum": lambda h, m: h > h.max() / 2,
        "a quantile": lambda h, m: h >= h.flatten().quantile(1 - m.float().mean()),
        "a fixed share": lambda h, m: marked(h, 0.2),
        "the mask itself": lambda h, m: m,
        "the coldest": lambda h, m: as_large(-h, m),
        "the heat inside the mask": lambda h, m: as_large(h * m, m),
        "numbers instead of a mask": lambda h, m: as_large(h, m).float(),
        "one pixel too few": lambda h, m: marked(h, max(int(m.sum()) - 1, 0) / m.numel()),
    },
    "permutation_test": {
        "one-sided": lambda x, y: permuted(x, y, one_sided=True),
        "halved": lambda x, y: permuted(x, y) / 2,
        "values instead of ranks": lambda x, y: permuted(x, y, ranks=False),
        "one minus p": lambda x, y: 1 - permuted(x, y),
        "rho itself": lambda x, y: abs(np.corrcoef(np.argsort(np.argsort(x)), y)[0, 1]),
        "always nothing": lambda x, y: 0.5,
        "too few permutations": lambda x, y: permuted(x, y, n=4),
    },
    "local_weights": {
        "every word once": lambda t, f, m, w: text_weights(t, f, m, w, once=True),
        "all texts alike": lambda t, f, m, w: text_weights(
            t, f, m, w, proximity=lambda d, w: np.ones(len(d))
        ),
        "another width": lambda t, f, m, w: text_weights(t, f, m, 0.25),
        "the 2 forgotten": lambda t, f, m, w: text_weights(t, f, m, w / 2**0.5),
        "the distance not squared": lambda t, f, m, w: text_weights(
            t, f, m, w, proximity=lambda d, w: np.exp(-d / (2 * w**2))
        ),
        "the share of hidden words": lambda t, f, m, w: text_weights(
            t, f, m, w, distance=lambda m: 1 - m.mean(axis=1)
        ),
        "far texts first": lambda t, f, m, w: text_weights(
            t, f, m, w, proximity=lambda d, w: 1 - np.exp(-(d**2) / (2 * w**2))
        ),
        "no intercept": lambda t, f, m, w: text_weights(t, f, m, w, centred=False),
        "no ridge": lambda t, f, m, w: text_weights(t, f, m, w, ridge=1e-9),
        "words hidden that should stay": lambda t, f, m, w: text_weights(t, f, ~m, w),
        "one weight too few": lambda t, f, m, w: text_weights(t, f, m, w)[1:],
        "the signs reversed": lambda t, f, m, w: -text_weights(t, f, m, w),
    },
    "word_recall": {
        "by size, whatever the sign": lambda w, d: words_found(w, d, signed=False),
        "the weakest": lambda w, d: words_found(w, d, reverse=False),
        "all that support": lambda w, d: words_found(w, d, n=len(w)),
        "the strongest only": lambda w, d: words_found(w, d, n=1),
        "five words": lambda w, d: words_found(w, d, n=5),
        "the number found": lambda w, d: words_found(w, d) * len(d),
        "the first in the list": lambda w, d: len(d & set(list(w)[: len(d)])) / len(d),
        "negative words too": lambda w, d: len(d & set(sorted(w, key=w.get)[-len(d) :])) / len(d),
        "the Jaccard index": lambda w, d: (
            len(d & {k for k in w if w[k] > 0}) / len(d | {k for k in w if w[k] > 0})
        ),
    },
    "ablation_weights": {
        "losses": lambda a, w, b: w * a.mean(dim=(1, 2)),
        "without the bias": lambda a, w, b: (w * a.mean((1, 2))) / (w * a.mean((1, 2))).sum(),
        "the gradient": lambda a, w, b: w,
        "a sum for the mean": lambda a, w, b: ablation(w * a.sum(dim=(1, 2)), b),
        "what is left": lambda a, w, b: 1 - ablation(w * a.mean(dim=(1, 2)), b),
        "turned round": lambda a, w, b: -ablation(w * a.mean(dim=(1, 2)), b),
    },
    "tokens_to_grid": {
        "the last token dropped": lambda t, h, w: grid_of(t[:, :-1], h, w),
        "column by column": lambda t, h, w: grid_of(t[:, 1:], w, h).transpose(2, 3),
        "numbers not moved": lambda t, h, w: t[:, 1:].reshape(len(t), -1, h, w),
        "width and height swapped": lambda t, h, w: grid_of(t[:, 1:], w, h),
        "channels last": lambda t, h, w: t[:, 1:].reshape(len(t), h, w, -1),
    },
    "rollout": {
        "without the identity": lambda layers: product(layers, 0.0)[:, 0, 1:],
        "first layer leftmost": lambda layers: product(layers[::-1])[:, 0, 1:],
        "the class token's column": lambda layers: product(layers)[:, 1:, 0],
        "the last layer alone": lambda layers: product(layers[-1:])[:, 0, 1:],
        "with the class token": lambda layers: product(layers)[:, 0],
        "the sum for the product": lambda layers: sum(layers)[:, 0, 1:],
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
    checks.proximity(lambda s, w: np.sqrt(np.exp(-(distance(s) ** 2) / w**2)).tolist())
    checks.weighted_ridge(lambda s, y, p, a: tuple(map(torch.as_tensor, ridge(s, y, p, a))))
    checks.pareto_front(lambda t, i: front(t, i).astype(int).tolist())
    assert capsys.readouterr().out.count("correct.") == 10


def test_grad_cam_as_the_paper_writes_it_is_accepted(capsys):
    """Without the library's extra shift of the minimum to zero."""
    checks.grad_cam(heat)
    assert "Exercise 4.1: correct." in capsys.readouterr().out
