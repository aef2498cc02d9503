"""Fit a classifier, read from top to bottom; keep it as a checkpoint that knows how it was made."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import asdict, dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm.auto import tqdm

from helpers import data
from helpers.data import ImageSet
from helpers.nets import models
from helpers.nets.models import Classifier
from helpers.run import files
from helpers.run.errors import WorkbookError
from helpers.run.profiles import Profile


@dataclass(frozen=True)
class Recipe:
    """How to train: the hyperparameters of one run.

    Attributes:
        epochs: passes over the training images.
        learning_rate: the peak of the one-cycle schedule (Smith & Topin 2019).
        batch_size: images per step.
        weight_decay: of AdamW (Loshchilov & Hutter 2019).
        label_smoothing: share of the target spread over all classes (Szegedy et al. 2016).
        flip: mirror images at random; wrong where left and right mean something.
        shift: move images by up to this many pixels, edges reflected.
        layers: ``"all"``, or ``"last"`` to train the final linear layer alone.
        seed: of the initial weights, the order of the images and their augmentation.
    """

    epochs: int
    learning_rate: float
    batch_size: int = 128
    weight_decay: float = 0.05
    label_smoothing: float = 0.0
    flip: bool = True
    shift: int = 0
    layers: str = "all"
    seed: int = 0


@dataclass
class History:
    """What happened in training, one entry per epoch.

    Attributes:
        loss: mean training loss, label smoothing included.
        train_accuracy: on the augmented training images, while the weights move.
        validation_accuracy: at the end of the epoch.
        seconds: wall time of the whole training.
    """

    loss: list[float]
    train_accuracy: list[float]
    validation_accuracy: list[float]
    seconds: float = 0.0


def fit(classifier: Classifier, train: ImageSet, validation: ImageSet, recipe: Recipe) -> History:
    """Train a classifier in place, and leave it in eval mode.

    AdamW under a one-cycle schedule, in channels-last memory, with bfloat16 arithmetic where
    the hardware has it (CUDA, and CPUs with AVX512-BF16: there about twice as fast).

    Raises:
        WorkbookError: unknown ``recipe.layers``, or the loss became NaN.
    """
    if not recipe.learning_rate > 0:  # also when it is NaN
        raise WorkbookError(f"a learning rate of {recipe.learning_rate} trains nothing: raise it")
    torch.manual_seed(recipe.seed)
    device = classifier.device
    network = classifier.network.to(memory_format=torch.channels_last)
    parameters = _trainable(classifier, recipe.layers)
    optimizer = torch.optim.AdamW(
        parameters, recipe.learning_rate, weight_decay=recipe.weight_decay
    )
    steps = recipe.epochs * -(-len(train) // recipe.batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.learning_rate, steps)
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=_has_bfloat16(device))
    # The images wait in uint8 where the network is; only a batch at a time becomes float.
    pixels, labels = train.pixels.to(device), train.labels.to(device)
    history, start = History([], [], []), time.perf_counter()

    with tqdm(total=steps, desc=f"training {classifier.name}", unit="batch", mininterval=2) as bar:
        for _ in range(recipe.epochs):
            # With only the last layer learning, the frozen layers' statistics stay frozen too.
            network.train(recipe.layers == "all")
            losses, hits = torch.zeros((), device=device), torch.zeros((), device=device)
            for rows in torch.randperm(len(labels)).to(device).split(recipe.batch_size):
                images = augment(pixels[rows].float() / 255, recipe.flip, recipe.shift)
                images = classifier.preprocess(images).to(memory_format=torch.channels_last)
                with autocast:
                    logits = network(images)
                loss = F.cross_entropy(
                    logits.float(), labels[rows], label_smoothing=recipe.label_smoothing
                )
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                losses += loss.detach() * len(rows)
                hits += (logits.detach().argmax(1) == labels[rows]).sum()
                bar.update()
            if not losses.isfinite():
                raise WorkbookError(
                    f"training {classifier.name} diverged (the loss is NaN): lower the learning "
                    f"rate of {recipe.learning_rate}"
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
    """Say whether bfloat16 is faster than float32 here."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    return device.type == "cpu" and torch.ops.mkldnn._is_mkldnn_bf16_supported()


# ---- checkpoints -------------------------------------------------------------------------------


def fit_or_load(classifier: Classifier, profile: Profile, recipe: Recipe, start: str) -> History:
    """Train on the profile's images, or load what the same training left in data/checkpoints.

    Same means: architecture, classes, data, start weights and recipe are all unchanged. The
    file is written atomically, so a killed training leaves an earlier checkpoint as it was.

    Args:
        classifier: changed in place.
        profile: names the data set, its size and how many images of it.
        recipe: how to train.
        start: what the weights are before training: ``"random"`` or an asset's name.
    """
    configuration = {
        "model": classifier.name,
        "classes": list(classifier.class_names),
        "input_size": classifier.input_size,
        "normalisation": [classifier.mean, classifier.std],
        "start": start,
        "data": [data.identity(profile.dataset), profile.images.train, profile.size],
        "recipe": asdict(recipe),
    }
    text = json.dumps(configuration, sort_keys=True)
    key = hashlib.sha256(text.encode()).hexdigest()[:10]
    name = profile.dataset.partition(":")[0]
    path = files.data_folder() / "checkpoints" / f"{name}_{classifier.name}_{key}.pt"
    if path.exists():
        history = _restore(path, classifier, text)
        print(f"Trained before: {path.name}, {recipe.epochs} epochs.")
        return history
    train, validation = (load_split(profile, split) for split in ("train", "validation"))
    history = fit(classifier, train, validation, recipe)
    with files.atomic(path) as partial:
        torch.save(
            {
                "configuration": text,
                "history": asdict(history),
                "weights": {k: v.cpu() for k, v in classifier.network.state_dict().items()},
            },
            partial,
        )
    return history


def _restore(path, classifier: Classifier, configuration: str) -> History:
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
        same = saved["configuration"] == configuration
        weights, history = saved["weights"], History(**saved["history"])
    except Exception as error:
        raise WorkbookError(
            f"checkpoint {path.name} is damaged: delete it and train again"
        ) from error
    if not same:
        raise WorkbookError(
            f"checkpoint {path.name} was made with another configuration: delete it"
        )
    try:
        models.load_weights(classifier.network, weights, path.name)
    except WorkbookError as error:
        raise WorkbookError(f"{error}: delete that checkpoint and train again") from error
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
        WorkbookError: the profile starts from weights that know other classes than its data.
    """
    class_names = data.class_names(profile.dataset)
    if profile.start == "random":
        built = models.build(
            profile.model, class_names, profile.size, models.CIFAR_STATISTICS,
            seed=profile.training.seed,
        )  # fmt: skip
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
