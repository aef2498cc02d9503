"""Score a hand-in: does it find the object, how long does it take, and who does better?"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pandas import DataFrame
from tqdm.auto import tqdm

from helpers import data
from helpers.course.handin.params import KEYS, validate
from helpers.course.handin.unpickle import load_params
from helpers.course.handin.worker import Worker
from helpers.data import ImageSet
from helpers.measure.agreement import iou
from helpers.nets import models
from helpers.nets.models import Classifier
from helpers.run import files
from helpers.run.errors import WorkbookError

DEFAULTS: dict[str, dict] = {key: {} for key in KEYS}  # what explain_instance does by itself

# What the course's server answered to four others, who made it public: mean IoU, mean seconds. It
# has masks of its own, which nobody else has seen, and its own machine. All four left the
# superpixels as they are.
PEERS = {
    "peer 1": (0.3348, 1.95), "peer 2": (0.3289, 3.37), "peer 3": (0.3081, 4.65),
    "peer 4": (0.3079, 3.13),
}  # fmt: skip
ON_THE_SERVER = "the server's hidden masks, its machine"

_PATIENCE = 3  # images on which the process may be lost before the hand-in is given up


@dataclass(frozen=True)
class Score:
    """How a hand-in did."""

    name: str  # whose it is
    subject: str  # images and model; only scores of one subject can be compared
    keys: tuple[str, ...]  # the ten images
    ious: tuple[float, ...]  # of each explanation with the object; NaN where an image has no mask
    seconds: tuple[float, ...]  # for each explanation; the limit where it was stopped
    faults: tuple[str, ...]  # why an explanation failed; empty where it did not
    # Mean IoU and seconds of the stored results on this subject, by name. Their seconds were
    # measured on another day, perhaps on another machine.
    stored: dict[str, tuple[float, float]]

    @property
    def n(self) -> int:
        """The number of images with a mask, on which the mean IoU rests."""
        return int(np.isfinite(self.ious).sum())

    @property
    def iou(self) -> float:
        """Mean IoU over the images that have a mask; higher is better."""
        return float(np.nanmean(self.ious))

    @property
    def mean_seconds(self) -> float:
        """Mean time of an explanation, over all images."""
        return float(np.mean(self.seconds))

    @property
    def rank(self) -> int:
        """1 where no other stored result has a higher mean IoU."""
        rivals = [iou for name, (iou, _) in self.stored.items() if name != self.name]
        return 1 + sum(iou > self.iou for iou in rivals)

    def table(self) -> DataFrame:
        """Return a row per image, the mean last."""
        return DataFrame({
            "image": [*(key.replace("_", " ") for key in self.keys), f"mean ({self.n} masks)"],
            "IoU": [*self.ious, self.iou],
            "seconds": [*self.seconds, self.mean_seconds],
            "fault": [*self.faults, ""],
        })  # fmt: skip

    def ranking(self) -> DataFrame:
        """Return a row per result on this subject and per peer, the best mean IoU first.

        The column "measured on" tells them apart: the numbers of the peers come from the course's
        server, with masks that are not ours, so they count for no rank.
        """
        board = {**self.stored, self.name: (self.iou, self.mean_seconds)}
        rows = {name: (*entry, "our masks") for name, entry in board.items()}
        if self.subject.startswith("imagenet_ten "):
            rows |= {name: (*entry, ON_THE_SERVER) for name, entry in PEERS.items()}
        columns = ["mean IoU", "seconds", "measured on"]
        table = DataFrame.from_dict(rows, orient="index", columns=columns)
        return table.sort_values("mean IoU", ascending=False, kind="stable")

    def __str__(self) -> str:
        images = self.table().to_string(index=False, float_format="%.2f", na_rep="no mask")
        ranking = self.ranking().to_string(float_format="%.3f")
        place = f"rank {self.rank} of {len({*self.stored, self.name})} on {self.subject}"
        return f"{images}\n\n{self.name}: {place}\n\n{ranking}"


def score(
    params: dict[str, dict], classifier: Classifier | None = None, images: ImageSet | None = None,
    *, name: str = "hand-in", seconds: float = 60, superpixels: int = 5, seed: int = 0,
    server_like: bool = False, stored: Path | None = None, progress_bar: bool = True,
    worker: Worker | None = None,
) -> Score:  # fmt: skip
    """Explain each image's top prediction with its parameters, and compare with the object.

    An explanation is read as the library shows it: as its five strongest supporting superpixels.
    One that fails, or takes too long, scores 0. An image whose mask is empty counts for the time
    only. The explanations are made in a process of their own, with limits on time and memory.
    ``batch_size`` and ``random_seed`` are not looked at: the batches suit the device, and a lucky
    draw is not rewarded.

    Args:
        params: a hand-in; see :func:`helpers.course.handin.validate`.
        classifier: the model; MobileNetV2 with ImageNet weights if None.
        images: ten images with masks, in the order of the keys; the ten of ImageNet if None.
        name: whose parameters they are.
        seconds: the limit for each image.
        superpixels: how many of the strongest supporting ones make the mask.
        seed: of the states.
        server_like: leave the superpixels to the library, as the four :data:`PEERS` did.
        stored: the file of stored results; ``data/lime_scoreboard.json`` if None.
        progress_bar: show one over the images.
        worker: a process that is there already, with model, seed and number of superpixels.

    Raises:
        WorkbookError: the parameters have faults, no image was explained, three had to be
            stopped, or the images are not ten with masks.
    """
    faults = validate(params)
    if faults:
        raise WorkbookError("the hand-in has faults: " + "; ".join(faults))
    images = data.load("imagenet_ten") if images is None else images
    if len(images) != len(KEYS) or images.masks is None:
        raise WorkbookError(f"{images.name}: the scoreboard needs {len(KEYS)} images with masks")
    classifier = classifier or models.pretrained("mobilenet_v2")
    own = worker or Worker(classifier, seed, superpixels)
    answers, lost = [], []
    try:
        for key, pixels in zip(tqdm(KEYS, "score", disable=not progress_bar), images.pixels,
                               strict=True):  # fmt: skip
            image = pixels.permute(1, 2, 0).contiguous().numpy()
            arguments = {**params[key], **({"segmentation_fn": None} if server_like else {})}
            answers.append(own.explain(image, arguments, seconds))
            lost += [f"{key} ({answers[-1].fault})"] * answers[-1].lost
            if len(lost) == _PATIENCE:
                raise WorkbookError(
                    f"given up: {', '.join(lost)}: use fewer samples or larger superpixels"
                )
    finally:
        if worker is None:
            own.stop()
    if all(answer.fault for answer in answers):
        raise WorkbookError(f"no image was explained; {KEYS[0]}: {answers[0].fault}")
    ious = tuple(
        float("nan") if not truth.any()
        else 0.0 if answer.mask is None
        else float(iou(answer.mask, truth))
        for answer, truth in zip(answers, images.masks, strict=True)
    )  # fmt: skip
    times, _, reasons, _ = zip(*answers, strict=True)
    subject = f"{images.name} {classifier.name}" + ", server-like" * server_like
    board = {n: tuple(entry) for n, entry in _read(stored).get(subject, {}).items()}
    return Score(name, subject, KEYS, ious, times, reasons, board)


def grade(
    hand_ins: Mapping[str, Path], classifier: Classifier | None = None,
    images: ImageSet | None = None, *, superpixels: int = 5, seed: int = 0,
    progress_bar: bool = True, **options: object,
) -> DataFrame:  # fmt: skip
    """Score the files of a whole course; whatever is in one of them, the others get their score.

    Args:
        hand_ins: the pickle of each name.
        classifier, images, superpixels, seed, options: as for :func:`score`.
        progress_bar: show one over the files.

    Returns:
        a row per name, the best first: "mean IoU" and "seconds"; or nan, and why in "fault".
    """
    classifier, rows = classifier or models.pretrained("mobilenet_v2"), {}
    worker = Worker(classifier, seed, superpixels)
    try:
        for name, path in tqdm(hand_ins.items(), "grade", disable=not progress_bar):
            try:
                done = score(
                    load_params(path), classifier, images, name=name, progress_bar=False,
                    worker=worker, **options,
                )  # fmt: skip
                rows[name] = done.iou, done.mean_seconds, ""
            except WorkbookError as error:
                rows[name] = np.nan, np.nan, str(error)
    finally:
        worker.stop()
    table = DataFrame.from_dict(rows, orient="index", columns=["mean IoU", "seconds", "fault"])
    return table.sort_values("mean IoU", ascending=False, kind="stable")


def store(score: Score, stored: Path | None = None) -> None:
    """Keep a score, so that later ones are ranked against it; one of the same name is replaced."""
    book = _read(stored)
    entry = [round(score.iou, 4), round(score.mean_seconds, 3)]
    book.setdefault(score.subject, {})[score.name] = entry
    with files.atomic(_file(stored)) as partial:
        partial.write_text(json.dumps(book, indent=1, sort_keys=True) + "\n")


def _read(stored: Path | None) -> dict[str, dict[str, list[float]]]:
    path = _file(stored)
    return json.loads(path.read_text()) if path.exists() else {}


def _file(stored: Path | None) -> Path:
    return stored or files.ROOT / "data" / "lime_scoreboard.json"
