"""The hand-in: LIME parameters per image, checked so that they work on another machine."""

import operator
import reprlib
import warnings
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from functools import partial

import numpy as np
from lime.wrappers.scikit_image import SegmentationAlgorithm
from sklearn.metrics import pairwise_distances

from helpers.course.handin.admitted import DISTANCES, REGRESSORS, is_plain
from helpers.data.imagenet import TEN
from helpers.explain.segments import METHODS

# One key per image, in the order of the images: "imagenet_n01443537_goldfish" is "goldfish".
KEYS = tuple(name.split("_", 2)[2] for name in TEN)

FORBIDDEN = ("image", "classifier_fn")


def validate(params: object) -> list[str]:
    """Return every fault of a hand-in, one readable line each; an empty list when it is good.

    What the library's ``explain_instance`` accepts is good, if it is the same in another process:
    made of plain values, superpixels, regressors and distances of the usual libraries.

    Args:
        params: a dictionary with exactly the keys :data:`KEYS`, each a dictionary of arguments
            of ``explain_instance`` without ``image`` and ``classifier_fn``. Numbers may be
            NumPy's, sequences may be lists, tuples or arrays, a regressor may be fitted.
    """
    if not isinstance(params, Mapping):
        kind = type(params).__name__
        return [f"the hand-in is a {kind}: make it a dictionary, one key per image"]
    faults = [f"{key}: missing" for key in KEYS if key not in params]
    for key, arguments in params.items():
        if key not in KEYS:
            faults.append(f"{_short(key)}: not one of the ten images{_near(key, KEYS)}")
        elif not isinstance(arguments, Mapping):
            faults.append(f"{key}: is a {type(arguments).__name__}, not a dictionary of arguments")
        else:
            faults += [f"{key}: {fault}" for fault in _argument_faults(arguments)]
    return faults


def _argument_faults(arguments: Mapping) -> list[str]:
    faults = []
    for name, value in arguments.items():
        if name in FORBIDDEN:
            faults.append(f"{name} is given by the scoreboard: leave it out")
        elif name not in _ARGUMENTS:
            faults.append(
                f"{_short(name)} is no argument of explain_instance{_near(name, _ARGUMENTS)}"
            )
        else:
            good, wanted = _ARGUMENTS[name]
            if name == "labels" and not _is_nothing(arguments.get("top_labels", 5)):
                good = is_plain  # it is not looked at
            if not good(value):
                faults.append(f"{name} must be {wanted}, not {_short(value)}")
    return faults


# ---- what each argument may be -----------------------------------------------------------------

# Any states will do: the whole image, as in every draw, and two more.
_STATES = np.array([[1, 1, 1, 1], [0, 1, 1, 0], [1, 0, 0, 0]])


def _is_nothing(value: object) -> bool:
    return not isinstance(value, np.ndarray) and is_plain(value) and not value


def _is_whole(value: object, low: float = -np.inf) -> bool:
    try:
        return operator.index(value) >= low
    except TypeError:
        return False


def _is_class_list(value: object) -> bool:
    try:
        return is_plain(value) and all(map(_is_whole, value))
    except TypeError:  # there is nothing to go through
        return False


def _is_colour(value: object) -> bool:
    """Say whether NumPy paints an image with it, which is what the library asks it to do."""
    if not is_plain(value):
        return False
    try:
        shape = np.broadcast_shapes((1, 1, 3), np.shape(value))
        if value is not None:
            np.empty(shape, dtype=np.uint8)[:] = value
    except (TypeError, ValueError, OverflowError):
        return False
    return len(shape) == 3


def _is_segmentation(value: object) -> bool:
    if isinstance(value, partial) and not value.args and is_plain(value.keywords):
        value = value.func
    # Exactly this type: a subclass of one's own would not unpickle elsewhere.
    if type(value) is SegmentationAlgorithm and is_plain(vars(value).get("target_params")):
        value = vars(value).get("target_fn", "")
    return value is None or any(value is function for function in METHODS.values())


def _is_metric(value: object) -> bool:
    if not isinstance(value, str) and not any(value is known for known in DISTANCES.values()):
        return False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = pairwise_distances(_STATES, _STATES[:1], metric=value)
    except (TypeError, ValueError):
        return False
    return bool(np.isfinite(found).all())


def _is_regressor(value: object) -> bool:
    return value is None or (
        type(value) in REGRESSORS and all(map(is_plain, value.get_params(deep=False).values()))
    )


_PLAIN = (is_plain, "a plain value; it is not looked at")
_POSITIVE = (partial(_is_whole, low=1), "a whole number from 1")

_ARGUMENTS: dict[str, tuple[Callable[[object], bool], str]] = {
    "labels": (_is_class_list, "a list of class indices such as (1,)"),
    "hide_color": (_is_colour, "None, a number or three numbers from 0 to 255"),
    "top_labels": (
        lambda value: _is_nothing(value) or _is_whole(value), "None or a whole number",
    ),
    "num_features": _POSITIVE,
    "num_samples": _POSITIVE,
    "batch_size": _PLAIN,
    "segmentation_fn": (
        _is_segmentation,
        "None or quickshift, slic or felzenszwalb, as a SegmentationAlgorithm of "
        "lime.wrappers.scikit_image, with plain settings (nothing else unpickles elsewhere)",
    ),
    "distance_metric": (
        _is_metric, "a metric of sklearn.metrics.pairwise_distances such as 'cosine'",
    ),
    "model_regressor": (
        _is_regressor,
        f"None or one of {', '.join(kind.__name__ for kind in REGRESSORS)} of scikit-learn, "
        "with plain settings",
    ),
    "random_seed": _PLAIN,
    "progress_bar": _PLAIN,
}  # fmt: skip


_BRIEF = reprlib.Repr()
_BRIEF.maxlevel = _BRIEF.maxlist = _BRIEF.maxtuple = _BRIEF.maxdict = 3


def _near(name: object, known: Iterable[str]) -> str:
    near = get_close_matches(name[:80], known, n=1) if isinstance(name, str) else []
    return f" (did you mean {near[0]}?)" if near else ""


def _short(value: object) -> str:
    """Return a value in at most a line, however large or deep it is."""
    try:
        return " ".join(_BRIEF.repr(value).split())
    except ValueError:  # Python refuses to print integers of thousands of digits
        return f"that {type(value).__name__}"
