"""Fit a classifier, read from top to bottom; train no network twice."""

import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm.auto import tqdm

from helpers import data
from helpers.data import ImageSet
from helpers.nets import checkpoints, models
from helpers.nets.models import Classifier
from helpers.run.errors import WorkbookError
from helpers.run.profiles import Profile


@dataclass(frozen=True)
class Recipe:
    """How to train: the hyperparameters of one run."""

    epochs: int  # passes over the training images
    learning_rate: float  # the peak of the one-cycle schedule (Smith & Topin 2019)
    batch_size: int = 128  # images per step
    weight_decay: float = 0.05  # of AdamW (Loshchilov & Hutter 2019)
    label_smoothing: float = 0.0  # share of the target for all classes (Szegedy et al. 2016)
    flip: bool = True  # mirror images at random; wrong where left and right mean something
    shift: int = 0  # move images by up to this many pixels, edges reflected
    # Input sizes in pixels, each for an equal part of the epochs, smaller and cheaper ones first
    # (Howard 2018, "progressive resizing"). Empty, or for a network of one size: always its own.
    sizes: Sequence[int] = ()
    layers: str = "all"  # or "last", to train the final linear layer alone
    seed: int = 0  # of the initial weights, the order of the images and their augmentation


@dataclass
class History:
    """What happened in training, one entry per epoch."""

    loss: list[float]  # mean over the training images, label smoothing included
    train_accuracy: list[float]  # on the augmented images, while the weights move
    validation_accuracy: list[float]  # at the end of the epoch
    seconds: float = 0.0  # wall time of the whole training


@torch.random.fork_rng()  # the caller's random numbers go on as if nothing had been drawn
def fit(classifier: Classifier, train: ImageSet, validation: ImageSet, recipe: Recipe) -> History:
    """Train a classifier in place, and leave it in eval mode.

    AdamW under a one-cycle schedule, in channels-last memory, with bfloat16 arithmetic where
    the hardware has it (CUDA, and CPUs with AVX512-BF16: there about 1.7 times as fast).

    Raises:
        WorkbookError: unknown ``recipe.layers``; a learning rate that is not positive or too large.
    """
    if not recipe.learning_rate > 0:  # also when it is NaN
        raise WorkbookError(f"a learning rate of {recipe.learning_rate} trains nothing: raise it")
    torch.manual_seed(recipe.seed)
    device = classifier.device
    one_size = not recipe.sizes or classifier.architecture.sizes
    sizes = [classifier.input_size] if one_size else recipe.sizes
    network = classifier.network.to(memory_format=torch.channels_last)
    weights, rate = _trainable(classifier, recipe.layers), recipe.learning_rate
    optimizer = torch.optim.AdamW(weights, rate, weight_decay=recipe.weight_decay)
    steps = recipe.epochs * -(-len(train) // recipe.batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, steps)
    cross_entropy = nn.CrossEntropyLoss(label_smoothing=recipe.label_smoothing)
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=_has_bfloat16(device))
    # The images wait in uint8 where the network is; only a batch at a time becomes float.
    pixels, labels = train.pixels.to(device), train.labels.to(device)
    history, start = History([], [], []), time.perf_counter()

    title = f"training {classifier.name}"
    with tqdm(total=steps, desc=title, unit="batch", mininterval=2) as bar:
        for epoch in range(recipe.epochs):
            size = sizes[epoch * len(sizes) // recipe.epochs]
            # With only the last layer learning, the frozen layers' statistics stay frozen too.
            network.train(recipe.layers == "all")
            losses, hits = torch.zeros((), device=device), torch.zeros((), device=device)
            for rows in torch.randperm(len(labels)).to(device).split(recipe.batch_size):
                images = augment(pixels[rows].float() / 255, recipe.flip, recipe.shift)
                # The same classifier, for images of another size.
                images = replace(classifier, input_size=size).preprocess(images)
                with autocast:
                    logits = classifier.answer(images.to(memory_format=torch.channels_last))
                loss = cross_entropy(logits.float(), labels[rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                losses += loss.detach() * len(rows)
                hits += (logits.detach().argmax(1) == labels[rows]).sum()
                bar.update()
            if not losses.isfinite():
                raise WorkbookError(
                    f"{title} diverged (the loss is NaN): lower the learning rate of {rate}"
                )
            history.loss.append(losses.item() / len(train))
            history.train_accuracy.append(hits.item() / len(train))
            history.validation_accuracy.append(accuracy(classifier, validation))
            bar.set_postfix_str(f"validation accuracy {history.validation_accuracy[-1]:.1%}")
    network.eval().requires_grad_(True)
    history.seconds = time.perf_counter() - start
    return history


def accuracy(classifier: Classifier, images: ImageSet) -> float:
    """Return the share of images whose class is predicted right."""
    predicted = classifier.logits(images.images).argmax(dim=1)
    return (predicted == images.labels).float().mean().item()


def augment(images: Tensor, flip: bool, shift: int) -> Tensor:
    """Mirror and shift each image [N, 3, H, W] at random, edges reflected."""
    n, _, height, width = images.shape
    if flip:
        mirrored = torch.rand(n, 1, 1, 1, device=images.device) < 0.5
        images = torch.where(mirrored, images.flip(-1), images)
    if shift:
        padded = F.pad(images, (shift,) * 4, mode="reflect")
        top, left = torch.randint(0, 2 * shift + 1, (2, n, 1), device=images.device)
        rows = top + torch.arange(height, device=images.device)
        columns = left + torch.arange(width, device=images.device)
        which = torch.arange(n, device=images.device)[:, None, None]
        images = padded[which, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
    return images


def _trainable(classifier: Classifier, layers: str) -> list[nn.Parameter]:
    """Freeze what the recipe does not train, and return the rest."""
    if layers not in ("all", "last"):
        raise WorkbookError(f'recipe.layers is {layers!r}: use "all" or "last"')
    classifier.network.requires_grad_(layers == "all")
    if layers == "last":
        classifier.layer(classifier.architecture.head).requires_grad_(True)
    return [p for p in classifier.network.parameters() if p.requires_grad]


def _has_bfloat16(device: torch.device) -> bool:
    """Say whether bfloat16 is faster than float32: with AVX512 but not its BF16 it is slower."""
    if device.type == "cuda":  # PyTorch calls a T4, which emulates it slowly, able as well
        return torch.cuda.get_device_capability(device) >= (8, 0)
    # Where PyTorch is too old to say what the CPU has, float32 is the safe answer.
    abilities = getattr(torch.cpu, "get_capabilities", dict)()
    # What oneDNN, which does the convolutions, may use of that; unset means all.
    allowed = os.environ.get("ONEDNN_MAX_CPU_ISA", "ALL").upper()
    may = any(word in allowed for word in ("ALL", "DEFAULT", "BF16", "FP16", "AMX", "AVX10"))
    return device.type == "cpu" and may and abilities.get("avx512_bf16", False)


# ---- trained before? ---------------------------------------------------------------------------


def fit_or_load(
    classifier: Classifier, profile: Profile, recipe: Recipe, start: str, *, shipped: bool = True
) -> History:
    """Train on the profile's images, or load what the same training has left.

    Same means: architecture, classes, data, start weights and recipe are all unchanged. Weights
    that were trained here (``data/checkpoints``) come first, then those that the workbook ships
    (``data/weights``). Two notebooks that need the same network train it once: the second waits.

    Args:
        classifier: changed in place.
        profile: names the data set, its size and how many images of it.
        start: what the weights are before training: ``"random"`` or an asset's name.
        shipped: whether shipped weights will do.

    Raises:
        WorkbookError: a file of weights is damaged, or the training fails (see :func:`fit`).
    """
    made_by = checkpoints.configuration(classifier, profile, asdict(recipe), start)
    own, ours = checkpoints.paths(made_by)

    def found(path: Path, origin: str) -> History:
        history = History(**checkpoints.load(path, classifier, made_by))
        print(f"{origin}: {path.name}, {recipe.epochs} epochs.")
        return history

    if own.exists():
        return found(own, "Trained before")
    if shipped and ours.exists():
        classifier.note = f"Weights that the workbook has trained and ships: {ours.name}"
        return found(ours, "Trained before, shipped with the workbook")
    with checkpoints.lock(own):
        if own.exists():
            return found(own, "Trained meanwhile")
        splits = (load_split(profile, split) for split in ("train", "validation"))
        history = fit(classifier, *splits, recipe)
        checkpoints.save(own, classifier, made_by, asdict(history))
    return history


def recipe_of(profile: Profile, **changes: object) -> Recipe:
    """Return the recipe of a profile's training table, with changes."""
    return replace(Recipe(**vars(profile.training)), **changes)


def load_split(profile: Profile, split: str) -> ImageSet:
    """Load the images of a split, as many as the profile says."""
    return data.load(profile.dataset, split, getattr(profile.images, split), profile.size)


def untrained(profile: Profile) -> tuple[Classifier, str]:
    """Return the profile's classifier as training starts from it, and the name of that start.

    Raises:
        WorkbookError: the start's weights know other classes than the data.
    """
    class_names = data.class_names(profile.dataset)
    if profile.start == "random":
        seed, statistics = profile.training.seed, models.CIFAR_STATISTICS
        built = models.build(profile.model, class_names, profile.size, statistics, seed)
        return built.to(models.best_device()), "random"
    start = models.pretrained(profile.model, profile.start)
    if start.class_names != class_names:
        raise WorkbookError(
            f"the {profile.start} weights of {profile.model} know other classes than "
            f'{profile.dataset}: set START = "random"'
        )
    return start, models.PRETRAINED[profile.start][profile.model][0]


def trained_classifier(profile: Profile) -> Classifier:
    """Return the classifier of the first notebook, training it now if that was not yet run."""
    classifier, start = untrained(profile)
    fit_or_load(classifier, profile, recipe_of(profile), start)
    return classifier
