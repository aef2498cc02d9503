"""The hand-in: what it may hold, and how it is read; nobody's file is trusted."""

import os
import pickle
import random
import subprocess
import sys
import time
from collections import OrderedDict
from functools import partial
from inspect import signature
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from handing_in import (
    GOOD,
    HOSTILE,
    Call,
    blocks,
    fitted,
    hand_in,
    in_place,
    laughs,
    picture,
    quickshift,
)  # fmt: skip
from lime import lime_image
from lime.wrappers.scikit_image import SegmentationAlgorithm
from skimage.segmentation import felzenszwalb, slic, watershed
from skimage.segmentation import quickshift as quickshift_function
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import LassoCV, LinearRegression, LogisticRegression, Ridge, RidgeCV
from sklearn.metrics import pairwise
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVR
from sklearn.utils import all_estimators

from helpers.course import handin
from helpers.course.handin import unpickle, worker
from helpers.course.handin.admitted import DISTANCES, REGRESSORS
from helpers.course.handin.params import _ARGUMENTS
from helpers.explain import lime
from helpers.run.errors import WorkbookError

# ---- validate ----------------------------------------------------------------------------------

AS_PEOPLE_SEND_THEM = [
    {},
    {"labels": (1,), "top_labels": 5, "hide_color": 0, "num_samples": 1000, "batch_size": 10},
    {"labels": [3, np.int64(4)], "top_labels": None},
    {"labels": np.array([1, 2]), "top_labels": np.int32(1)},
    {"labels": None, "top_labels": 5},
    {"labels": None},
    {"batch_size": None},
    {"hide_color": None, "segmentation_fn": None, "model_regressor": None, "random_seed": None},
    {"hide_color": [0, 0, 0]},
    {"hide_color": (127.5, np.float32(3), 0)},
    {"hide_color": np.array([1, 2, 3], dtype=np.uint8)},
    {"hide_color": np.array([0.5, 0.5, 0.5])},
    {"num_features": 100_000, "random_seed": 42, "progress_bar": False},
    {"segmentation_fn": quickshift()},
    {"segmentation_fn": SegmentationAlgorithm("slic", n_segments=np.int64(50), sigma=1.0)},
    {"segmentation_fn": SegmentationAlgorithm("felzenszwalb", scale=200)},
    {"segmentation_fn": SegmentationAlgorithm("slic", n_segments=50, spacing=[1, 1])},
    {"model_regressor": Ridge(alpha=2), "distance_metric": "l2"},
    {"model_regressor": fitted(Ridge(alpha=1.5))},
    {"model_regressor": fitted(RidgeCV(alphas=np.array([0.1, 1.0])))},
    {"model_regressor": LinearRegression()},
]


@pytest.mark.parametrize("arguments", AS_PEOPLE_SEND_THEM, ids=lambda a: ",".join(a) or "none")
@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_values_as_people_send_them_pass_before_and_after_the_file(arguments, protocol, saved):
    params = hand_in(**arguments)
    assert handin.validate(params) == []
    loaded = handin.load_params(saved(params, protocol))
    assert handin.validate(loaded) == []
    assert list(loaded) == list(handin.KEYS)
    for name, value in arguments.items():
        twin = loaded["kite"][name]
        assert type(twin) is type(value)
        if isinstance(value, SegmentationAlgorithm):
            assert twin.target_fn is value.target_fn
            assert twin.target_params == value.target_params
        elif type(value) in REGRESSORS:
            assert str(twin) == str(value)
            assert not hasattr(twin, "coef_")
        else:
            np.testing.assert_array_equal(twin, value)
    assert handin.validate(handin.load_params(saved(loaded))) == [], "a second time round"


class OwnSegmentation(SegmentationAlgorithm):
    pass


BAD = [
    ({"num_samples": 0}, "num_samples must be a whole number from 1"),
    ({"num_samples": 1000.0}, "not 1000.0"),
    ({"num_samples": "1000"}, "not '1000'"),
    ({"num_features": None}, "num_features must be"),
    ({"batch_size": print}, "batch_size must be a plain value; it is not looked at"),
    ({"top_labels": 2.0}, "top_labels must be"),
    ({"labels": 1, "top_labels": None}, "a list of class indices such as (1,), not 1"),
    ({"labels": None, "top_labels": None}, "labels must be"),
    ({"labels": None, "top_labels": 0}, "labels must be"),
    ({"labels": "kite", "top_labels": None}, "labels must be"),
    ({"labels": [1.5], "top_labels": None}, "labels must be"),
    ({"labels": range(10**12)}, "labels must be"),
    ({"labels": [print]}, "labels must be"),
    ({"hide_color": [0, 0]}, "hide_color must be None, a number or three numbers"),
    ({"hide_color": "black"}, "not 'black'"),
    ({"hide_color": 300}, "hide_color must be"),
    ({"hide_color": float("nan")}, "hide_color must be"),
    ({"hide_color": np.zeros((4, 4))}, "hide_color must be"),
    ({"segmentation_fn": "slic"}, "SegmentationAlgorithm"),
    ({"segmentation_fn": lambda image: image}, "nothing else unpickles elsewhere"),
    ({"segmentation_fn": partial(int)}, "segmentation_fn must be"),
    ({"segmentation_fn": OwnSegmentation("slic")}, "segmentation_fn must be"),
    ({"segmentation_fn": SegmentationAlgorithm("slic", mask=print)}, "segmentation_fn must be"),
    ({"model_regressor": RandomForestRegressor()}, "Ridge, RidgeCV"),
    ({"model_regressor": Ridge}, "model_regressor must be"),
    ({"model_regressor": Ridge(random_state=np.random.RandomState(0))}, "plain settings"),
    ({"distance_metric": "cosinus"}, "such as 'cosine', not 'cosinus'"),
    ({"distance_metric": ["cosine"]}, "distance_metric must be"),
    ({"segmentation_fn": {"algo_type": "slic"}}, "as a SegmentationAlgorithm"),
    ({"segmentation_fn": SegmentationAlgorithm("none")}, "segmentation_fn must be"),
    ({"segmentation_fn": partial(slic, mask=print)}, "segmentation_fn must be"),
    ({"classifier_fn": print}, "classifier_fn is given by the scoreboard: leave it out"),
    ({"image": None}, "image is given by the scoreboard"),
    ({"num_sample": 100}, "'num_sample' is no argument of explain_instance (did you mean num_sam"),
    ({7: 1}, "7 is no argument"),
]


@pytest.mark.parametrize(("arguments", "words"), BAD, ids=lambda v: str(v)[:30])
def test_a_fault_is_named_with_its_image(arguments, words, one_line):
    faults = handin.validate({**GOOD, "flamingo": arguments})
    assert len(faults) == 1
    one_line(faults[0], "flamingo: ", words)


def test_every_fault_is_reported_at_once():
    kite = {"num_samples": "many", "image": 1, "hide_color": "no"}
    params = {**GOOD, "kite": kite, "vulture": [1]}
    del params["orange"]
    params["golfish"] = {}
    params[3] = {}
    faults = handin.validate(params)
    assert len(faults) == 7
    assert sum(fault.startswith("kite: ") for fault in faults) == 3
    assert "orange: missing" in faults
    assert "'golfish': not one of the ten images (did you mean goldfish?)" in faults
    assert "vulture: is a list, not a dictionary of arguments" in faults


@pytest.mark.parametrize("params", [None, [], "pickle", {1, 2}, 3.5])
def test_what_is_no_dictionary_is_one_fault(params):
    (fault,) = handin.validate(params)
    assert type(params).__name__ in fault


def test_the_ten_keys_are_those_of_the_course():
    assert set(handin.KEYS) == {
        "West_Highland_white_terrier", "American_coot", "racer", "flamingo", "kite", "goldfish",
        "tiger_shark", "vulture", "common_iguana", "orange",
    }  # fmt: skip
    assert handin.validate(GOOD) == []


def test_huge_and_deep_values_are_reported_in_short():
    circle = []
    circle.append(circle)
    values = [laughs(), circle, 10**10_000, "x" * 10**6, [[0] * 10**5] * 10**5]
    start = time.perf_counter()
    for value in values:
        for name in _ARGUMENTS:
            for fault in handin.validate({**GOOD, "kite": {name: value, "top_labels": None}}):
                assert len(fault) < 500
    assert time.perf_counter() - start < 5


# ---- what the library runs with is good --------------------------------------------------------

SLIC = SegmentationAlgorithm("slic", n_segments=16)


def library_runs(arguments):
    """Say whether the lime library itself explains a picture with these arguments."""
    network = blocks().network

    def ask(images):
        with torch.no_grad():
            pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
            return network(pixels).softmax(dim=1).numpy()

    try:
        lime_image.LimeImageExplainer(random_state=0).explain_instance(picture(), ask, **arguments)
    except Exception:
        return False
    return True


TRIED = {
    "labels": [
        None, 3, "kite", "", [], {}, (), [0, np.int32(1)], (-1,), (1.0,), (10,), {1, 2}, {1: "a"},
        range(3), frozenset([1]), [2, 2], np.array([1, 2]), np.array([1.0, 2.0]), np.array([[1]]),
        np.array(1), 7.5, b"x", ["1"], [[1], [2]],
    ],
    "top_labels": [
        None, 0, 1, 5, 1000, 10**6, 10**30, -1, -2, -100, True, False, 0.0, 2.0, "", "2", [], (),
        np.int8(2), np.float64(1), np.array(2), np.array([2]), np.bool_(True),
    ],
    "hide_color": [
        None, 0, 255, 256, -1, 1.5, 300.5, float("nan"), True, np.uint8(3), np.float32(3),
        (0, 0, 0), [1, 2], [5], [[1, 2, 3]], [[[1, 2, 3]]], (300, 0, 0), np.array([1, 2, 3]),
        np.array([300, 1, -2]), np.array([0.5, 0.5, 0.5]), np.array(7), np.zeros((32, 32, 3)),
        np.zeros((32, 3)), np.zeros((32, 32)), np.zeros((32, 32, 1)), "black", "5", "blur",
        ["1", "2", "3"], b"5", 1j, {0}, {}, 10**30, range(3), (None, 0, 0),
        [0, 0, 0, 0], [[1], [2, 3]],
    ],
    "num_features": [
        0, 1, 2, 6, 7, 100_000, 10**12, -1, 7.0, 1e5, float("inf"), True, False, None, "5",
        np.int64(3), np.float64(9), np.array(7),
    ],
    "num_samples": [0, 1, 2, 9, 10, 500, 20.0, np.int64(20), None, "20", -5, False],
    "batch_size": [None, 0, -1, 1, 10, 10.0, 3.7, "x", True, 10**9, np.int64(7), [1], {}],
    "random_seed": [None, 0, -1, 2**40, 1.5, "x", np.int64(1), [1]],
    "distance_metric": [
        None, "cosinus", "Cosine", ["cosine"], len, *sorted(pairwise._VALID_METRICS),
        *DISTANCES.values(),
    ],
    "segmentation_fn": [
        None, 0, "slic", {"algo_type": "slic", "n_segments": 9}, watershed, slic,
        quickshift_function, felzenszwalb, partial(slic, n_segments=16),
        partial(slic, n_segments=np.int64(9)),
        partial(partial(quickshift_function, kernel_size=1), max_dist=4), partial(SLIC),
        *(SegmentationAlgorithm(method, **settings) for method, settings in (
            ("slic", {"foo": 3}), ("slic", {"n_segments": 9, "start_label": 0}), ("none", {}),
            ("slic", {"n_segments": 9, "mask": np.ones((32, 32), bool)}),
            ("slic", {"n_segments": 9, "sigma": (1, 1), "spacing": [1, 1]}),
            ("slic", {"n_segments": 9, "enforce_connectivity": False}),
            ("quickshift", {"kernel_size": 1, "max_dist": 4, "random_seed": 3}),
            ("quickshift", {"kernel_size": 1, "max_dist": 4, "rng": 3}),
            ("quickshift", {"kernel_size": 0}), ("felzenszwalb", {"scale": 10}),
        )),
    ],
    "model_regressor": [
        None, 0, "ridge", Ridge, Ridge(alpha=[1.0]), Ridge(alpha=np.array([1.0])), LassoCV(cv=3),
        RidgeCV(alphas=[0.1, 1]), LinearRegression(positive=True), Ridge(fit_intercept=False),
        SVR(kernel="linear"), LogisticRegression(), make_pipeline(StandardScaler(), Ridge()),
        *(kind() for _, kind in all_estimators("regressor") if not signature(kind).parameters
          or all(p.default is not p.empty or p.kind == p.VAR_KEYWORD
                 for p in signature(kind).parameters.values())),
    ],
    "progress_bar": [True, False],
    "classifier_fn": [None], "image": [picture()], "num_sample": [10],
}  # fmt: skip


# Good for the library, and still no answer: it is asked for the top class.
NO_ANSWER = "out of range", "was not explained", "setting an array element"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", TRIED)
def test_what_the_library_runs_with_is_good_and_is_scored(name, saved, monkeypatch, one_line):
    """Each value is tried on the lime library, on the rules, in a file, and on the scoreboard."""
    monkeypatch.setattr(lime_image, "tqdm", lambda rows: rows)
    tried = [{"segmentation_fn": SLIC, "num_samples": 50, name: value} for value in TRIED[name]]
    if name == "labels":
        tried += [{**arguments, "top_labels": top} for arguments in tried for top in (None, 0)]
    good = []
    for arguments in tried:
        faults = handin.validate({**GOOD, "kite": arguments})
        if library_runs(arguments):
            assert not faults
            good.append(arguments)
        for fault in faults:
            one_line(fault, "kite: ", name)
    assert good or name not in _ARGUMENTS or name == "progress_bar"
    for some in (good[i : i + 10] for i in range(0, len(good), 10)):
        loaded = handin.load_params(saved(dict(zip(handin.KEYS, some, strict=False))))
        assert handin.validate(GOOD | loaded) == []
        for arguments in loaded.values():
            answer = worker._explain(blocks(), picture(), arguments, seed=0, superpixels=5)
            assert answer.mask is not None or any(w in answer.fault for w in NO_ANSWER), arguments


# ---- load_params -------------------------------------------------------------------------------


def test_the_file_is_good_in_a_fresh_process(saved):
    path = saved(hand_in(segmentation_fn=quickshift(), model_regressor=fitted(Ridge())))
    code = (
        "import sys; from helpers.course import handin; "
        "print(handin.validate(handin.load_params(sys.argv[1])))"
    )
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def test_files_written_with_older_numpy_are_read(saved):
    params = hand_in(hide_color=np.array([1, 2, 3]), num_samples=np.int64(50))
    data = pickle.dumps(params, 3)
    assert data.count(b"numpy._core.multiarray") == 2
    loaded = handin.load_params(saved(data.replace(b"numpy._core", b"numpy.core")))
    assert loaded["racer"]["hide_color"].tolist() == [1, 2, 3]
    assert loaded["racer"]["num_samples"] == 50


def test_arrays_of_another_machine_keep_their_numbers(saved):
    shades = np.array([[1.5, 2, 3]] * 2, dtype=">f4").T[:, 0]
    assert handin.load_params(saved(hand_in(hide_color=shades)))["kite"]["hide_color"].tolist() == [
        1.5, 2, 3,
    ]  # fmt: skip


def test_an_ordered_dictionary_is_a_dictionary(saved):
    assert handin.validate(handin.load_params(saved(OrderedDict(GOOD)))) == []


def state_of(kind, **state):
    """Make an object of a class with any state, as a pickle can."""
    made = kind.__new__(kind)
    made.__dict__.update(state)
    return made


def by_hand(module, name, *arguments):
    """Return a pickle of protocol 0 that calls module.name."""
    body = "".join(f"V{argument}\n" for argument in arguments)
    return f"c{module}\n{name}\n({body}tR.".encode()


MALICIOUS = {
    "os.system": lambda mark: Call(os.system, f"touch {mark}"),
    "in a value": lambda mark: in_place("labels", [Call(os.system, f"touch {mark}")]),
    "as a key": lambda mark: {Call(os.system, f"touch {mark}"): {}},
    "open": lambda mark: Call(open, str(mark), "w"),
    "exec": lambda mark: Call(exec, f"open({str(mark)!r}, 'w')"),
    "eval by hand": lambda mark: by_hand("builtins", "eval", f"open({str(mark)!r}, 'w')"),
    "old name of eval": lambda mark: by_hand("__builtin__", "eval", f"open({str(mark)!r},'w')"),
    "Popen": lambda mark: Call(subprocess.Popen, ["touch", str(mark)]),
    "getattr": lambda mark: Call(getattr, "text", "format"),
    "partial": lambda mark: Call(partial, os.system, f"touch {mark}"),
    "partial as segmentation": lambda mark: in_place("segmentation_fn", partial(len)),
    "import": lambda mark: by_hand("evil", "innocent"),
    "import of a submodule": lambda mark: by_hand("sklearn.linear_model.evil", "Ridge"),
    "dotted": lambda mark: (
        b"\x80\x04\x8c\x1alime.wrappers.scikit_image\x8c\x0etypes.FunctionType\x93)R."
    ),
    "method of an admitted class": lambda mark: Call(Ridge.get_params, Ridge()),
    "the explainer": lambda mark: Call(lime.LimeImageExplainer),
    "file into an array": lambda mark: Call(np.load, str(mark)),
    "object array": lambda mark: in_place(
        "hide_color", np.array([Call(os.system, f"touch {mark}"), 0, 0], dtype=object)
    ),
    "object array of words": lambda mark: in_place("hide_color", np.array(["a"], dtype=object)),
    "structured array": lambda mark: in_place("hide_color", np.zeros(3, dtype="i4,O")),
    "object dtype": lambda mark: np.dtype("O"),
    "state of a regressor": lambda mark: in_place(
        "model_regressor", state_of(Ridge, alpha=Call(os.system, f"touch {mark}"))
    ),
    "function in a regressor": lambda mark: in_place("model_regressor", Ridge(alpha=os.system)),
    "regressor in a regressor": lambda mark: in_place("model_regressor", Ridge(alpha=Ridge())),
    "state of a segmentation": lambda mark: in_place(
        "segmentation_fn",
        state_of(SegmentationAlgorithm, algo_type="slic", target_fn=os.system, target_params={}),
    ),
    "segmentation of another kind": lambda mark: in_place(
        "segmentation_fn",
        state_of(SegmentationAlgorithm, algo_type="slic", target_params={},
                 target_fn=quickshift().target_fn),
    ),
    "segmentation with an object": lambda mark: in_place(
        "segmentation_fn", SegmentationAlgorithm("slic", mask=Ridge())
    ),
    "call of a segmentation": lambda mark: Call(quickshift().target_fn, np.zeros((9, 9, 3))),
    "call of the algorithm": lambda mark: Call(SegmentationAlgorithm, "slic"),
    "a huge array": lambda mark: Call(np.ndarray, (10**9,)),
    "persistent": lambda mark: b"\x80\x04\x8c\x03abcQ.",
}  # fmt: skip


@pytest.mark.parametrize("kind", MALICIOUS)
def test_a_malicious_pickle_is_refused_before_it_runs(kind, saved, tmp_path, monkeypatch, one_line):
    mark = tmp_path / "mark"
    folder = tmp_path / "path"
    folder.mkdir()
    (folder / "evil.py").write_text(f"open({str(mark)!r}, 'w')\nclass innocent: pass\n")
    monkeypatch.syspath_prepend(folder)
    path = saved(MALICIOUS[kind](mark))
    with pytest.raises(WorkbookError) as error:
        handin.load_params(path)
    one_line(error, "explain_params.pkl")
    assert not mark.exists()
    assert "evil" not in sys.modules


@pytest.mark.parametrize("kind", ["os.system", "exec", "import", "state of a regressor"])
def test_the_malicious_pickles_would_do_harm(kind, saved, tmp_path):
    """Otherwise the test above would show nothing; run where harm is only a file."""
    mark = tmp_path / "mark"
    (tmp_path / "evil.py").write_text(f"open({str(mark)!r}, 'w')\nclass innocent: pass\n")
    path = saved(MALICIOUS[kind](mark))
    code = "import pickle, sys; pickle.load(open(sys.argv[1], 'rb'))"
    subprocess.run([sys.executable, "-c", code, path], cwd=tmp_path, capture_output=True)
    assert mark.exists()


def test_the_error_says_what_was_asked_for(saved, one_line):
    with pytest.raises(WorkbookError) as error:
        handin.load_params(saved(Call(os.system, "true")))
    one_line(error, "is refused", "system", "SegmentationAlgorithm")


def test_damaged_files_never_fail_in_another_way(saved, monkeypatch):
    good = pickle.dumps(hand_in(segmentation_fn=quickshift(), model_regressor=fitted(Ridge()),
                                hide_color=np.array([1, 2, 3]), labels=(np.int64(1),)))  # fmt: skip
    rng = random.Random(0)
    refused = 0
    elsewhere = unpickle._read

    def here(data):
        return SimpleNamespace(result=lambda: elsewhere.__wrapped__(data))

    monkeypatch.setattr(unpickle, "set_limits", lambda memory: None)
    for n in range(400):
        # Every tenth in a process of its own; the others fail alike without one, and sooner.
        monkeypatch.setattr(unpickle, "_read", elsewhere if n % 10 == 0 else here)
        data = bytearray(good)
        for _ in range(rng.randint(1, 4)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        try:
            handin.validate(handin.load_params(saved(bytes(data))))
        except WorkbookError as error:
            assert "\n" not in str(error)
            refused += 1
    assert refused > 100


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is counted on Linux")
@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_pickle_ends_within_its_time_and_memory(kind, saved, one_line):
    import resource  # there is none on Windows

    path = saved(HOSTILE[kind]())
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(WorkbookError) as error:
        handin.load_params(path)
    one_line(error, "explain_params.pkl is ")
    assert time.perf_counter() - start < 30
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000, "KB, of this one"
    assert len(str(error.value)) < 300


def test_the_largest_good_file_is_read(saved):
    """The limits are far from what people hand in."""
    settings = {"labels": list(range(1000)), "hide_color": np.zeros((224, 224, 3), np.uint8)}
    assert handin.validate(handin.load_params(saved(hand_in(**settings)))) == []


@pytest.mark.parametrize("content", [b"", b"not a pickle", b"\x80\x04", b"{}" * 50, b"\x80\x04."])
def test_what_is_no_pickle_is_said_to_be_none(content, saved, one_line):
    with pytest.raises(WorkbookError) as error:
        handin.load_params(saved(content))
    one_line(error, "explain_params.pkl is not a pickle of parameters", "pickle.dump")


def test_missing_and_large_files_are_named(saved, tmp_path, one_line):
    with pytest.raises(WorkbookError) as error:
        handin.load_params(tmp_path / "none.pkl")
    one_line(error, "cannot read none.pkl", "No such file")
    with pytest.raises(WorkbookError) as error:
        handin.load_params(saved(bytes(6_000_000)))
    one_line(error, "6.0 MB", "hand in the dictionary alone")
