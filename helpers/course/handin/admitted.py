"""What the pickle of a hand-in may hold, and how real objects are made of it.

A pickle is a program: it names functions and has them called. Here names are looked up in a
short table of what LIME parameters are made of. Nothing is imported on the file's behalf. What
stands in the table are inert stand-ins and classes that only keep what they are given; real
objects are made of them afterwards, by our own code.
"""

import io
import pickle
from dataclasses import dataclass
from functools import partial
from inspect import signature
from numbers import Real

import numpy as np
from lime.wrappers.scikit_image import SegmentationAlgorithm
from scipy.spatial import distance
from sklearn import linear_model, svm

from helpers.explain.segments import METHODS
from helpers.run.errors import WorkbookError

_KEYS, _VALUES = 100, 5000  # at most, in a dictionary and in one argument

# The regressors with weights per superpixel whose fit takes the weights of the samples.
REGRESSORS = (
    linear_model.Ridge, linear_model.RidgeCV, linear_model.LinearRegression,
    linear_model.Lasso, linear_model.LassoCV, linear_model.ElasticNet, linear_model.ElasticNetCV,
    linear_model.BayesianRidge, linear_model.HuberRegressor, linear_model.QuantileRegressor,
    linear_model.SGDRegressor, linear_model.GammaRegressor, linear_model.PoissonRegressor,
    linear_model.TweedieRegressor, svm.LinearSVR, svm.SVR, svm.NuSVR,
)  # fmt: skip

# The distances between two vectors that SciPy has as functions.
DISTANCES = {name: getattr(distance, name) for name in (
    "braycurtis", "canberra", "chebyshev", "cityblock", "cosine", "dice", "euclidean", "hamming",
    "jaccard", "jensenshannon", "minkowski", "rogerstanimoto", "russellrao", "sokalsneath",
    "sqeuclidean", "yule",
)}  # fmt: skip


def load(data: bytes) -> object:
    """Return the parameters in a pickle; the dictionaries and their keys are not judged.

    Raises:
        WorkbookError: it names something that is not admitted, or holds a long or deep value.
        Exception: of any kind, where it is damaged.
    """
    loaded = _Unpickler(io.BytesIO(data)).load()
    if not isinstance(loaded, dict):
        return _value(loaded)
    return {
        _value(key): {_value(name): _value(value) for name, value in _few(arguments).items()}
        if isinstance(arguments, dict)
        else _value(arguments)
        for key, arguments in _few(loaded).items()
    }


def is_plain(value: object) -> bool:
    """Say whether a value is made of words and numbers alone, and neither long nor deep."""
    left, seen = [(value, 0)], 0
    while left:
        node, depth = left.pop()
        seen += 1
        if isinstance(node, list | tuple | set | frozenset | dict | range):
            if depth == 3 or len(node) + len(left) + seen > _VALUES:
                return False
            items = [*node, *node.values()] if isinstance(node, dict) else node
            left += [(item, depth + 1) for item in items]
        elif isinstance(node, str | bytes):
            if len(node) > _VALUES:
                return False
        elif isinstance(node, np.ndarray):
            if node.dtype.kind not in "biuf":
                return False
        elif not (node is None or isinstance(node, Real | np.bool_)):
            return False
    return True


def _few(dictionary: dict) -> dict:
    if len(dictionary) > _KEYS:
        raise WorkbookError(f"it has a dictionary of {len(dictionary):,} keys, far too many")
    return dictionary


# ---- from stand-ins to the real things ---------------------------------------------------------


def _value(value: object) -> object:
    if isinstance(value, _Function):
        return {**METHODS, **DISTANCES}[value.name]
    if isinstance(value, _Partial):
        function, positional, settings, _ = value.state
        if positional or not isinstance(function, _Function | _Segmentation):
            raise WorkbookError(f"its functools.partial is of none of {', '.join(METHODS)}")
        return partial(_value(function), **_settings(settings or {}))
    if isinstance(value, _Segmentation):
        state = vars(value)
        method, settings = state.get("algo_type"), _settings(state.get("target_params", {}))
        if method not in METHODS or state.get("target_fn") != _Function(method):
            raise WorkbookError(f"its SegmentationAlgorithm is none of {', '.join(METHODS)}")
        return SegmentationAlgorithm(method, **settings)
    if type(value) in REGRESSORS:
        names = signature(type(value)).parameters
        return type(value)(**_settings({n: v for n, v in vars(value).items() if n in names}))
    if not is_plain(value):
        raise WorkbookError(
            f"it holds a {type(value).__name__} that is too long or deep, or not made of words "
            "and numbers"
        )
    return _real(value)


def _settings(settings: dict) -> dict:
    """Return the settings of a segmentation or a regressor, if they are plain values."""
    for name, value in settings.items():
        if not is_plain(value):
            raise WorkbookError(f"the setting {name} is a {type(value).__name__}, no plain value")
    return {name: _real(value) for name, value in settings.items()}


def _real(value: object) -> object:
    """Return a plain value with real arrays instead of stand-ins."""
    if isinstance(value, _Array):
        return np.array(value, subok=False)
    if isinstance(value, dict):
        return {key: _real(item) for key, item in value.items()}
    return type(value)(map(_real, value)) if isinstance(value, list | tuple) else value


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


@dataclass(frozen=True)
class _Function:
    """Stands for a function that is only mentioned: it cannot be called."""

    name: str


class _Segmentation:
    """Stands in for ``SegmentationAlgorithm``: keeps what it is given."""


class _Partial:
    """Stands in for ``functools.partial``: keeps what it is given."""

    def __init__(self, *_function: object) -> None:
        self.state = (None, (), {}, None)

    def __setstate__(self, state: tuple) -> None:
        self.state = state


_ADMITTED: dict[tuple[str, str], object] = {
    ("collections", "OrderedDict"): dict,
    ("collections", "defaultdict"): lambda *_factory: {},  # its items follow
    ("lime.wrappers.scikit_image", "SegmentationAlgorithm"): _Segmentation,
    ("functools", "partial"): _Partial,
    ("_codecs", "encode"): _latin1,
    ("numpy", "dtype"): _NumberType,
    ("numpy", "ndarray"): _Function("ndarray"),
    **{(f.__module__, name): _Function(name) for name, f in {**METHODS, **DISTANCES}.items()},
    **{(kind.__module__, kind.__name__): kind for kind in REGRESSORS},
    **{
        (builtins, name): stand_in
        for builtins in ("builtins", "__builtin__")  # the second before protocol 3
        for name, stand_in in {
            "set": set, "frozenset": frozenset, "range": range, "xrange": range,
            "dict": _Function("dict"),
        }.items()
    },
    **{
        (f"numpy.{core}.{module}", name): stand_in
        for core in ("core", "_core")  # before and after NumPy 2
        for module, name, stand_in in (
            ("multiarray", "scalar", _scalar),
            ("multiarray", "_reconstruct", _reconstruct),
            ("numeric", "_frombuffer", _from_buffer),
        )
    },
}  # fmt: skip


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> object:
        """Look a name up in the table, instead of importing it."""
        if module.startswith("sklearn._loss."):
            return _Partial  # a fitted regressor keeps its loss, and we do not
        if (module, name) not in _ADMITTED:
            asked = " ".join(f"{module}.{name}".split())[:80]
            raise WorkbookError(
                f"it asks for {asked}, which LIME parameters do not need: use plain values, NumPy "
                "numbers, SegmentationAlgorithm and regressors of sklearn.linear_model"
            )
        return _ADMITTED[module, name]
