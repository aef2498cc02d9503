"""Read a hand-in that somebody else pickled, without trusting it.

A pickle is a program: it names functions and has them called. Here names are looked up in a
short table of what LIME parameters are made of. Nothing is imported on the file's behalf. What
stands in the table are inert stand-ins and classes that only keep what they are given; real
objects are made of them afterwards, by our own code. A pickle can also be made to go on for ever,
or to fill the memory, without calling anything: so each is first read by a process of its own,
which has limits.
"""

from __future__ import annotations

import io
import multiprocessing
import os
import pickle
import warnings
from collections import OrderedDict
from contextlib import suppress
from inspect import signature
from numbers import Real
from pathlib import Path

import numpy as np
from lime.wrappers.scikit_image import SegmentationAlgorithm
from pebble import ProcessExpired, concurrent
from sklearn import linear_model

from helpers.explain.segments import METHODS
from helpers.run.errors import WorkbookError

_LARGEST = 5_000_000  # bytes; ten dictionaries of parameters need a few thousand
_SECONDS = 10  # to read them; it takes milliseconds
_MEMORY = 2**29  # bytes more than there are in use
# A forked process is there at once and needs nothing of the script that runs; Windows has none.
_CONTEXT = multiprocessing.get_context(
    "fork" if "fork" in multiprocessing.get_all_start_methods() else "spawn"
)

# The regressors with one weight per superpixel whose fit takes the weights of the samples.
REGRESSORS = (
    linear_model.Ridge, linear_model.RidgeCV, linear_model.LinearRegression,
    linear_model.Lasso, linear_model.LassoCV, linear_model.ElasticNet, linear_model.ElasticNetCV,
    linear_model.BayesianRidge, linear_model.HuberRegressor, linear_model.QuantileRegressor,
    linear_model.SGDRegressor,
)  # fmt: skip


def load_params(path: str | Path) -> dict:
    """Read LIME parameters from a pickle file, whoever made it.

    Only what a hand-in needs is admitted: plain values, NumPy numbers and arrays of numbers, a
    ``SegmentationAlgorithm`` of the lime library, and linear regressors of scikit-learn, which
    are returned unfitted. What the parameters say is not judged here; see
    :func:`helpers.course.handin.validate`.

    Raises:
        WorkbookError: there is no such file, it is no pickle, it is too large, reading it takes
            too much time or memory, or it names anything else; in that case nothing of it has
            been run.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        data = path.read_bytes() if size <= _LARGEST else b""
    except OSError as error:
        raise WorkbookError(f"cannot read {path.name}: {error.strerror}") from error
    if size > _LARGEST:
        raise WorkbookError(
            f"{path.name} has {size / 1e6:.1f} MB, far more than parameters need: hand in the "
            "dictionary alone"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a regressor fitted by another scikit-learn
            _limited(data).result()
            return _read(data)
    except (TimeoutError, MemoryError, ProcessExpired):
        raise WorkbookError(
            f"{path.name} is refused: reading it takes more than {_SECONDS} s, or far more memory "
            "than parameters need"
        ) from None
    except WorkbookError as error:
        raise WorkbookError(f"{path.name} is refused: {error}") from None
    except Exception as error:  # a broken pickle can fail in any way
        reason = " ".join(str(error).split())[:100] or type(error).__name__
        raise WorkbookError(
            f"{path.name} is not a pickle of parameters ({reason}): write it with "
            "pickle.dump(params, file)"
        ) from None


def _read(data: bytes) -> object:
    return _params(_Unpickler(io.BytesIO(data)).load())


@concurrent.process(timeout=_SECONDS, mp_context=_CONTEXT)
def _limited(data: bytes) -> None:
    """Read a pickle in a process of its own, with a limit on time and memory."""
    with suppress(ImportError, OSError, ValueError):  # not every system counts its memory so
        import resource

        with open("/proc/self/statm") as counts:
            used = int(counts.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        resource.setrlimit(resource.RLIMIT_AS, (used + _MEMORY, used + _MEMORY))
    _read(data)


def is_plain(value: object) -> bool:
    """Say whether a setting is None, a word, a number, or a short sequence of numbers."""
    if isinstance(value, np.ndarray):
        return value.dtype.kind in "biuf"
    if isinstance(value, list | tuple):
        return len(value) <= 1000 and all(isinstance(item, Real | np.bool_) for item in value)
    return value is None or isinstance(value, str | Real | np.bool_)


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> object:
        """Look a name up in the table, instead of importing it."""
        if (module, name) not in _ADMITTED:
            asked = " ".join(f"{module}.{name}".split())[:80]
            raise WorkbookError(
                f"it asks for {asked}, which LIME parameters do not need: use plain values, NumPy "
                "numbers, SegmentationAlgorithm and regressors of sklearn.linear_model"
            )
        return _ADMITTED[module, name]


# ---- from stand-ins to the real things ---------------------------------------------------------


def _params(loaded: object) -> object:
    """Make real values of a hand-in, a dictionary of dictionaries; no deeper than these two."""
    if not isinstance(loaded, dict):
        return loaded
    return {
        key: {name: _value(value) for name, value in arguments.items()}
        if isinstance(arguments, dict)
        else arguments
        for key, arguments in loaded.items()
    }


def _value(value: object) -> object:
    if isinstance(value, _Array):
        return np.array(value, subok=False)
    if isinstance(value, _Segmentation):
        state = vars(value)
        method, settings = state.get("algo_type"), _settings(state.get("target_params", {}))
        if method not in METHODS or state.get("target_fn") != method:
            raise WorkbookError(f"its SegmentationAlgorithm is none of {', '.join(METHODS)}")
        return SegmentationAlgorithm(method, **settings)
    if type(value) in REGRESSORS:
        names = signature(type(value)).parameters
        return type(value)(**_settings({n: v for n, v in vars(value).items() if n in names}))
    return value


def _settings(settings: dict) -> dict:
    """Return the settings of a segmentation or a regressor, if they are plain values."""
    settings = {name: _value(value) for name, value in settings.items()}
    for name, value in settings.items():
        if not is_plain(value):
            raise WorkbookError(f"the setting {name} is a {type(value).__name__}, no plain value")
    return settings


# ---- stand-ins ---------------------------------------------------------------------------------


class _NumberType:
    """Stands in for ``numpy.dtype``: numbers only, no objects and no fields."""

    def __init__(self, code: str, *_flags: bool) -> None:
        self.dtype = np.dtype(str(code))
        if self.dtype.kind not in "biuf":
            raise WorkbookError("it holds an array of something else than numbers")

    def __setstate__(self, state: tuple) -> None:
        if state[1] in ("<", ">"):
            self.dtype = self.dtype.newbyteorder(state[1])


class _Array(np.ndarray):
    """What ``numpy.ndarray`` becomes; it reads its bytes as numbers only."""

    def __setstate__(self, state: tuple) -> None:
        _version, shape, kind, in_fortran_order, data = state
        super().__setstate__((1, shape, kind.dtype, in_fortran_order, data))


def _reconstruct(*_kind: object) -> _Array:
    return _Array((0,), "b")


def _from_buffer(data: bytes, kind: _NumberType, shape: tuple, order: str, *_axes) -> _Array:
    return np.frombuffer(data, kind.dtype).reshape(shape, order=order).copy().view(_Array)


def _scalar(kind: _NumberType, data: bytes) -> np.generic:
    return np.frombuffer(data, kind.dtype, count=1)[0]


def _latin1(text: str, _coding: str) -> bytes:
    return text.encode("latin1")  # how protocol 2 writes bytes


class _Segmentation:
    """Stands in for ``SegmentationAlgorithm``: keeps what it is given."""


_ADMITTED: dict[tuple[str, str], object] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("lime.wrappers.scikit_image", "SegmentationAlgorithm"): _Segmentation,
    ("_codecs", "encode"): _latin1,
    ("numpy", "dtype"): _NumberType,
    # Words where a name is only mentioned: words cannot be called.
    ("numpy", "ndarray"): "ndarray",
    **{(function.__module__, name): name for name, function in METHODS.items()},
    **{(kind.__module__, kind.__name__): kind for kind in REGRESSORS},
    **{
        (f"numpy.{core}.{module}", name): stand_in
        for core in ("core", "_core")  # before and after NumPy 2
        for module, name, stand_in in (
            ("multiarray", "scalar", _scalar),
            ("multiarray", "_reconstruct", _reconstruct),
            ("numeric", "_frombuffer", _from_buffer),
        )
    },
}
