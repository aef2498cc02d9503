"""Trained weights on disk: those that a training left here, and those that the workbook ships.

Both have one form: configuration of the training as a text, its history, its weights. A file is
used only where the whole configuration is equal: architecture, classes, data, start and recipe.
"""

import hashlib
import json
import zipfile
from pathlib import Path
from typing import Any

import torch
from filelock import AcquireReturnProxy, FileLock

from helpers import data
from helpers.nets import models
from helpers.nets.models import Classifier
from helpers.run import files
from helpers.run.errors import WorkbookError
from helpers.run.profiles import Profile


def configuration(
    classifier: Classifier, profile: Profile, recipe: dict[str, Any], start: str
) -> str:
    """Return all that decides what a training leaves, as one line of JSON."""
    decisive = {
        "model": classifier.name,
        "classes": list(classifier.class_names),
        "input_size": classifier.input_size,
        "normalisation": [classifier.mean, classifier.std],
        "start": start,
        "data": [data.identity(profile.dataset), profile.images.train, profile.size],
        "recipe": recipe,
    }
    return json.dumps(decisive, sort_keys=True)


def paths(configuration: str) -> tuple[Path, Path]:
    """Return where the weights of a training here are kept, and where shipped ones would be."""
    known = json.loads(configuration)
    name = known["data"][0].partition(" ")[0].partition(":")[0]
    key = hashlib.sha256(configuration.encode()).hexdigest()[:10]
    file = f"{name}_{known['model']}_{key}.pt"
    return files.data_folder() / "checkpoints" / file, shipped_folder() / file


def lock(path: Path) -> AcquireReturnProxy:
    """Wait until nobody else makes a file, and keep others from it inside a ``with`` block.

    Raises:
        WorkbookError: the file system refused.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return FileLock(path.with_suffix(".lock")).acquire()
    except OSError as error:
        raise WorkbookError(
            f"cannot write {path.name} ({error.strerror}): point WORKBOOK_DATA to another disk"
        ) from error


def shipped_folder() -> Path:
    """Return the folder of the weights that the workbook ships, and of the table about them."""
    return files.ROOT / "data" / "weights"


def save(
    path: Path, classifier: Classifier, configuration: str, history: dict, half: bool = False
) -> None:
    """Write weights, configuration and history of a training; an earlier file stays till the end.

    ``half`` writes floating-point weights as float16, half as large.

    Raises:
        WorkbookError: the file system refused.
    """
    weights = {name: value.cpu() for name, value in classifier.network.state_dict().items()}
    if half:
        weights = {k: v.half() if v.is_floating_point() else v for k, v in weights.items()}
    saved = {"configuration": configuration, "history": history, "weights": weights}
    with files.atomic(path) as partial:
        torch.save(saved, partial)


def load(path: Path, classifier: Classifier, configuration: str) -> dict:
    """Load weights into a classifier, and return the history of their training.

    Raises:
        WorkbookError: the file is damaged, or is of another training or architecture.
    """
    remedy = "fetch it again" if path.parent == shipped_folder() else "delete it and train again"
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.testzip():  # torch.load does not look at the checksums
                raise zipfile.BadZipFile
        saved = torch.load(path, map_location="cpu", weights_only=True)
        same = saved["configuration"] == configuration
        weights, history = saved["weights"], dict(saved["history"])
    except Exception as error:
        raise WorkbookError(f"checkpoint {path.name} is damaged: {remedy}") from error
    if not same:
        raise WorkbookError(f"checkpoint {path.name} was made with another configuration: {remedy}")
    try:
        models.load_weights(classifier.network, weights, path.name)
    except WorkbookError as error:
        raise WorkbookError(f"{error}: {remedy}") from error
    return history
