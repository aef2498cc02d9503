"""The hand-in: LIME parameters per image, checked so that they work on another machine."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from numbers import Integral, Real

import numpy as np
from lime.wrappers.scikit_image import SegmentationAlgorithm

from helpers.course.handin.unpickle import REGRESSORS, is_plain
from helpers.data.imagenet import TEN
from helpers.explain.segments import METHODS

# One key per image, in the order of the images: "imagenet_n01443537_goldfish" is "goldfish".
KEYS = tuple(name.split("_", 2)[2] for name in TEN)

FORBIDDEN = ("image", "classifier_fn")

_METRICS = (
    "cosine", "euclidean", "l2", "sqeuclidean", "manhattan", "l1", "cityblock", "chebyshev",
    "minkowski", "hamming", "jaccard", "dice", "braycurtis", "canberra",
)  # fmt: skip


def validate(params: object) -> list[str]:
    """Return every fault of a hand-in, one readable line each; an empty list when it is good.

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
    top = arguments.get("top_labels", 5)
    for name, value in arguments.items():
        if name == "labels" and value is None and isinstance(top, Integral) and top > 0:
            continue  # it is not looked at
        if name in FORBIDDEN:
            faults.append(f"{name} is given by the scoreboard: leave it out")
        elif name not in _ARGUMENTS:
            faults.append(
                f"{_short(name)} is no argument of explain_instance{_near(name, _ARGUMENTS)}"
            )
        else:
            good, wanted = _ARGUMENTS[name]
            if not good(value):
                faults.append(f"{name} must be {wanted}, not {_short(value)}")
    return faults


# ---- what each argument may be -----------------------------------------------------------------


def _whole(low: int, high: int, none: bool = False) -> Callable[[object], bool]:
    """Return a check for whole numbers from ``low`` to ``high``; True and False are none."""

    def check(value: object) -> bool:
        if value is None:
            return none
        return isinstance(value, Integral) and not isinstance(value, bool) and low <= value <= high

    return check


def _items(value: object) -> list:
    """Return the items of a plain sequence, the first thousand and one; of others none."""
    if isinstance(value, list | tuple | range) or (isinstance(value, np.ndarray) and value.ndim):
        return list(value[:1001])
    return []


def _is_class_list(value: object) -> bool:
    return 1 <= len(_items(value)) <= 1000 and all(map(_whole(0, 10**6), _items(value)))


def _is_shade(value: object) -> bool:
    real = isinstance(value, Real) and not isinstance(value, bool)
    return real and 0 <= value <= 255


def _is_colour(value: object) -> bool:
    items = _items(value)
    return value is None or _is_shade(value) or (len(items) == 3 and all(map(_is_shade, items)))


def _is_segmentation(value: object) -> bool:
    # Exactly this type: a subclass of one's own would not unpickle elsewhere.
    return value is None or (
        type(value) is SegmentationAlgorithm
        and value.target_fn in METHODS.values()
        and all(map(is_plain, value.target_params.values()))
    )


def _is_regressor(value: object) -> bool:
    return value is None or (
        type(value) in REGRESSORS and all(map(is_plain, value.get_params(deep=False).values()))
    )


_ARGUMENTS: dict[str, tuple[Callable[[object], bool], str]] = {
    "labels": (_is_class_list, "a list of class indices such as (1,)"),
    "hide_color": (_is_colour, "None, a number or three numbers from 0 to 255"),
    "top_labels": (_whole(0, 1000, none=True), "None or a whole number from 0 to 1,000"),
    "num_features": (_whole(1, 10**9), "a whole number from 1"),
    "num_samples": (_whole(10, 10**5), "a whole number from 10 to 100,000"),
    "batch_size": (_whole(1, 10**4, none=True), "None or a whole number from 1 to 10,000"),
    "segmentation_fn": (
        _is_segmentation,
        "None or a SegmentationAlgorithm of lime.wrappers.scikit_image with quickshift, slic or "
        "felzenszwalb and plain settings (nothing else unpickles elsewhere)",
    ),
    "distance_metric": (
        lambda value: isinstance(value, str) and value in _METRICS,
        "a metric of sklearn.metrics.pairwise_distances such as 'cosine'",
    ),
    "model_regressor": (
        _is_regressor,
        f"None or one of {', '.join(kind.__name__ for kind in REGRESSORS)} of "
        "sklearn.linear_model, with plain settings",
    ),
    "random_seed": (_whole(0, 2**32 - 1, none=True), "None or a whole number from 0"),
    "progress_bar": (lambda value: isinstance(value, bool | np.bool_), "True or False"),
}


_BRIEF = reprlib.Repr()
_BRIEF.maxlevel = _BRIEF.maxlist = _BRIEF.maxtuple = _BRIEF.maxdict = 3


def _near(name: object, known: Mapping | tuple) -> str:
    near = get_close_matches(str(name)[:80], known, n=1, cutoff=0.6)
    return f" (did you mean {near[0]}?)" if near else ""


def _short(value: object) -> str:
    """Return a value in at most a line, however large or deep it is."""
    try:
        return " ".join(_BRIEF.repr(value).split())
    except ValueError:  # Python refuses to print integers of thousands of digits
        return f"that {type(value).__name__}"
