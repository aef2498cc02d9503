"""The hand-in: what it may hold, how it is read, scored and sent; nobody's file is trusted."""

import io
import json
import multiprocessing
import os
import pickle
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections import OrderedDict
from contextlib import suppress
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from lime.wrappers.scikit_image import SegmentationAlgorithm
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import LinearRegression, Ridge, RidgeCV
from torch import nn

from helpers.course import handin
from helpers.course.handin import params as rules
from helpers.course.handin import scoreboard, unpickle, worker
from helpers.course.handin.unpickle import REGRESSORS
from helpers.data import shapes
from helpers.explain import lime
from helpers.measure.agreement import iou
from helpers.nets import models
from helpers.run.errors import WorkbookError

GOOD = handin.DEFAULTS


def hand_in(**arguments):
    return {key: dict(arguments) for key in handin.KEYS}


def fitted(regressor):
    rng = np.random.default_rng(0)
    return regressor.fit(rng.random((30, 4)), rng.random(30), sample_weight=rng.random(30))


def quickshift():
    return SegmentationAlgorithm("quickshift", kernel_size=4, max_dist=20, ratio=0.2)


@pytest.fixture
def saved(tmp_path):
    """Return a function that writes an object, or raw bytes, as explain_params.pkl."""

    def write(content, protocol=pickle.DEFAULT_PROTOCOL):
        path = tmp_path / "explain_params.pkl"
        raw = isinstance(content, bytes)
        path.write_bytes(content if raw else pickle.dumps(content, protocol))
        return path

    return write


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


@pytest.mark.parametrize("kind", REGRESSORS, ids=lambda kind: kind.__name__)
def test_every_admitted_regressor_passes_and_fits(kind, saved):
    params = hand_in(model_regressor=fitted(kind()), num_samples=40)
    assert handin.validate(params) == []
    arguments = handin.load_params(saved(params))["orange"]
    stripes = np.arange(24)[:, None] // 4 * np.ones((1, 24), int)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = lime.LimeImageExplainer().explain_instance(
            np.random.default_rng(0).integers(0, 255, (24, 24, 3), dtype=np.uint8),
            lambda batch: np.stack([batch.mean((1, 2, 3)) / 255] * 2, 1),
            **{**arguments, "segmentation_fn": lambda _: stripes, "progress_bar": False},
        )
    assert len(lime.weights(found, 1)) == 6


@pytest.mark.filterwarnings("ignore:Data was converted to boolean")
@pytest.mark.parametrize("metric", rules._METRICS)
def test_every_admitted_metric_gives_distances(metric):
    stripes = np.arange(24)[:, None] // 4 * np.ones((1, 24), int)
    found = lime.LimeImageExplainer(kernel_width=10).explain_instance(
        np.random.default_rng(0).integers(0, 255, (24, 24, 3), dtype=np.uint8),
        lambda batch: np.stack([batch.mean((1, 2, 3)) / 255] * 2, 1),
        segmentation_fn=lambda _: stripes, num_samples=40, distance_metric=metric,
        progress_bar=False,
    )  # fmt: skip
    assert np.abs(lime.weights(found, 1)).max() > 0


class OwnSegmentation(SegmentationAlgorithm):
    pass


BAD = [
    ({"num_samples": 0}, "num_samples must be a whole number from 10"),
    ({"num_samples": 10**7}, "num_samples must be"),
    ({"num_samples": 1000.0}, "not 1000.0"),
    ({"num_samples": True}, "num_samples must be"),
    ({"batch_size": True}, "batch_size must be"),
    ({"num_samples": "1000"}, "not '1000'"),
    ({"num_features": None}, "num_features must be"),
    ({"batch_size": -1}, "batch_size must be"),
    ({"top_labels": -5}, "top_labels must be"),
    ({"labels": 1}, "labels must be a list of class indices such as (1,), not 1"),
    ({"labels": ()}, "labels must be"),
    ({"labels": None, "top_labels": None}, "labels must be"),
    ({"labels": None, "top_labels": 0}, "labels must be"),
    ({"labels": "kite"}, "labels must be"),
    ({"labels": [1.5]}, "labels must be"),
    ({"labels": range(10**12)}, "labels must be"),
    ({"hide_color": [0, 0]}, "hide_color must be None, a number or three numbers"),
    ({"hide_color": "black"}, "not 'black'"),
    ({"hide_color": 300}, "hide_color must be"),
    ({"hide_color": float("nan")}, "hide_color must be"),
    ({"hide_color": True}, "hide_color must be"),
    ({"hide_color": np.zeros((4, 4, 3))}, "hide_color must be"),
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
    ({"random_seed": -1}, "random_seed must be"),
    ({"progress_bar": "yes"}, "progress_bar must be True or False"),
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
    params = {**GOOD, "kite": {"num_samples": "many", "image": 1, "labels": 3}, "vulture": [1]}
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
    laughs = ["ha"]
    for _ in range(60):
        laughs = [laughs, laughs]
    circle = []
    circle.append(circle)
    values = [laughs, circle, 10**10_000, "x" * 10**6, [[0] * 10**5] * 10**5]
    start = time.perf_counter()
    for value in values:
        for name in rules._ARGUMENTS:
            (fault,) = handin.validate({**GOOD, "kite": {name: value}})
            assert len(fault) < 500
    assert time.perf_counter() - start < 5


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


class Call:
    """Pickles as a call of any function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def state_of(kind, **state):
    """Make an object of a class with any state, as a pickle can."""
    made = kind.__new__(kind)
    made.__dict__.update(state)
    return made


def in_place(name, value):
    return {**GOOD, "kite": {name: value}}


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
    limited, at_once = unpickle._limited, lambda _data: SimpleNamespace(result=lambda: None)
    for n in range(400):
        # Every tenth in a process of its own; the others fail alike without one, and sooner.
        monkeypatch.setattr(unpickle, "_limited", limited if n % 10 == 0 else at_once)
        data = bytearray(good)
        for _ in range(rng.randint(1, 4)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        try:
            handin.validate(handin.load_params(saved(bytes(data))))
        except WorkbookError as error:
            assert "\n" not in str(error)
            refused += 1
    assert refused > 100


def endless():
    """Return a pickle that calls nothing, and whose key takes 2^60 steps to hash."""
    laughs = ("ha",)
    for _ in range(60):
        laughs = (laughs, laughs)
    # Such a tuple as a key: the empty dictionary is made first, and the key set by hand.
    key = pickle.dumps(laughs, 2)[2:-1]
    return b"\x80\x02}" + key + b"Ns."


def enormous():
    """Return a pickle of 2 MB that has the same text encoded five thousand times, 10 GB."""
    text = b"X" + (2_000_000).to_bytes(4, "little") + b"x" * 2_000_000 + b"q\x01"
    names = b"c_codecs\nencode\nq\x00" + text + b"X\x06\x00\x00\x00latin1q\x02000"
    return b"\x80\x02]" + names + (b"(" + b"h\x00h\x01h\x02\x86R" * 5000 + b"e.")


def test_a_pickle_that_takes_for_ever_is_given_up(saved, one_line):
    start = time.perf_counter()
    with pytest.raises(WorkbookError) as error:
        handin.load_params(saved(endless()))
    assert time.perf_counter() - start < 30
    one_line(error, "explain_params.pkl is refused", "more than 10 s")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is counted on Linux")
def test_a_pickle_that_fills_the_memory_is_given_up(saved, one_line):
    with pytest.raises(WorkbookError) as error:
        handin.load_params(saved(enormous()))
    one_line(error, "explain_params.pkl is refused", "memory")


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


# ---- score -------------------------------------------------------------------------------------


def shapes_classifier():
    classifier = models.build("shapes_net", shapes.CLASSES, 64)
    torch.manual_seed(0)
    nn.init.normal_(classifier.network.linear.weight, std=3)
    return classifier


def ten_shapes():
    ten = shapes.load("test", 10)
    ten.masks[2] = False
    return ten


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    """One hand-in with all that can happen, scored in a real process."""
    slow, few = SegmentationAlgorithm("slic", n_segments=30), SegmentationAlgorithm("slic")
    few.set_params(n_segments=1)
    params = hand_in(num_samples=30, segmentation_fn=slow)
    params[handin.KEYS[1]] = {"segmentation_fn": few}
    params[handin.KEYS[3]] = {"labels": (11,), "top_labels": None, "num_samples": 20}
    params[handin.KEYS[4]] = {"num_samples": 100_000}
    stored = tmp_path_factory.mktemp("stored") / "board.json"
    subject = "shapes shapes_net"
    stored.write_text(json.dumps({subject: {"best": [0.99, 1.0], "worst": [0.0, 2.0]},
                                  "other": {"x": [1.0, 1.0]}}))  # fmt: skip
    start = time.perf_counter()
    score = handin.score(params, shapes_classifier(), ten_shapes(), name="mine", seconds=4,
                       stored=stored, progress_bar=False)  # fmt: skip
    return score, params, stored, time.perf_counter() - start


@pytest.mark.slow
def test_a_score_is_the_overlap_of_the_five_strongest_superpixels_with_the_object(scored):
    score, params, _, _ = scored
    classifier, ten = shapes_classifier(), ten_shapes()
    for i in (0, 5, 9):
        picture = ten.pixels[i].permute(1, 2, 0).numpy()
        explanation = lime.LimeImageExplainer().explain_instance(
            picture, classifier, **params[score.keys[i]], progress_bar=False
        )
        top = int(classifier.logits(ten[[i]].images).argmax())
        assert explanation.top_labels[0] == top
        expected = iou(lime.mask(explanation, top, 5), ten.masks[i])
        assert score.ious[i] == pytest.approx(float(expected))
        assert score.faults[i] == ""
        assert 0 < score.seconds[i] < 4
    assert max(score.ious[i] for i in (0, 5, 9)) > 0


@pytest.mark.slow
def test_an_explanation_that_fails_scores_nothing_and_says_why(scored):
    score, *_ = scored
    assert score.ious[1] == score.ious[3] == 0
    assert "too few for LIME" in score.faults[1]
    assert "class index 11 is out of range" in score.faults[3]


@pytest.mark.slow
def test_an_explanation_that_takes_too_long_is_stopped_and_the_next_one_runs(scored):
    score, _, _, seconds = scored
    assert score.ious[4] == 0
    assert score.seconds[4] == 4
    assert score.faults[4] == "stopped after 4 s"
    assert score.faults[5:] == ("",) * 5
    assert seconds < 40


@pytest.mark.slow
def test_images_without_a_mask_are_left_out_of_the_mean_and_the_count_is_stated(scored):
    score, *_ = scored
    assert np.isnan(score.ious[2])
    assert score.faults[2] == ""
    assert score.n == 9
    assert score.iou == pytest.approx(np.mean([v for i, v in enumerate(score.ious) if i != 2]))
    assert score.mean_seconds == pytest.approx(np.mean(score.seconds))
    assert re.search(r"^ *kite +no mask ", str(score), re.MULTILINE)
    assert "mean (9 masks)" in str(score)


@pytest.mark.slow
def test_a_score_is_ranked_among_the_stored_ones_of_its_subject(scored):
    score, _, stored, _ = scored
    assert score.subject == "shapes shapes_net"
    assert score.rank == 2
    assert list(score.ranking().index) == ["best", "mine", "worst"]
    assert "mine: rank 2 of 3 on shapes shapes_net" in str(score)
    handin.store(score, stored)
    book = json.loads(stored.read_text())
    assert book["shapes shapes_net"]["mine"] == [round(score.iou, 4), round(score.mean_seconds, 3)]
    assert book["other"] == {"x": [1.0, 1.0]}
    assert scoreboard._read(stored)["shapes shapes_net"]["best"] == [0.99, 1.0]


def test_the_same_name_is_replaced_and_not_its_own_rival(tmp_root):
    score = handin.Score("me", "s", ("a", "b"), (0.2, 0.4), (1, 2), ("", ""), {"me": (0.9, 1)})
    assert score.rank == 1
    assert score.ranking().loc["me"].tolist() == pytest.approx([0.3, 1.5])
    assert len(score.ranking()) == 1
    handin.store(score)
    path = tmp_root / "data" / "lime_scoreboard.json"
    assert json.loads(path.read_text()) == {"s": {"me": [0.3, 1.5]}}


class Unreadable(nn.Module):
    def __setstate__(self, state):
        raise RuntimeError("only elsewhere")


def children():
    """Return the processes of explanations."""
    return {child.pid for child in multiprocessing.active_children()}


@pytest.mark.slow
def test_a_process_that_cannot_start_is_an_error(one_line):
    classifier = shapes_classifier()
    classifier.network = Unreadable()
    with pytest.raises(WorkbookError) as error:
        worker.Worker(classifier, seed=0, superpixels=5)
    one_line(error, "did not start", "__main__")


@pytest.mark.slow
def test_a_process_that_dies_is_a_fault_and_not_the_end():
    process = worker.Worker(shapes_classifier(), seed=0, superpixels=5)
    threading.Timer(0.5, os.kill, (process.pid, signal.SIGKILL)).start()
    picture = ten_shapes().pixels[0].permute(1, 2, 0).numpy()
    answer = process.explain(picture, {"num_samples": 100_000}, seconds=30)
    assert answer.mask is None
    assert "the process ended" in answer.fault
    arguments = {"num_samples": 20, "segmentation_fn": SegmentationAlgorithm("slic")}
    for _ in range(3):  # the next image has a process, also if one is killed in between
        answer = process.explain(picture, arguments, seconds=30)
        assert answer.fault == ""
        assert answer.mask.shape == (64, 64)
        for pid in children():
            os.kill(pid, signal.SIGKILL)
    process.stop()
    assert not children()


def test_a_class_that_was_not_explained_is_a_fault():
    classifier, ten = shapes_classifier(), ten_shapes()
    top = int(classifier.logits(ten[[0]].images).argmax())
    picture = ten.pixels[0].permute(1, 2, 0).numpy()
    arguments = {"labels": ((top + 1) % 10,), "top_labels": 0, "num_samples": 20}
    answer = worker._explain(classifier, picture, arguments, seed=0, superpixels=5)
    assert answer.mask is None
    assert answer.fault == f"the predicted class {top} was not explained"


def test_faulty_hand_ins_and_image_sets_are_refused(one_line):
    with pytest.raises(WorkbookError) as error:
        handin.score({**GOOD, "kite": {"num_samples": 1, "image": 2}}, shapes_classifier())
    one_line(error, "kite: num_samples", "; kite: image")
    with pytest.raises(WorkbookError) as error:
        handin.score(GOOD, shapes_classifier(), shapes.load("test", 9))
    one_line(error, "10 images with masks")


# ---- submit ------------------------------------------------------------------------------------

TOKEN = "s3cr3t-t0ken"


class Server:
    """A course server on this machine that gives one scripted answer after the other."""

    def __init__(self):
        self.script, self.requests = [], []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.requests.append((self.path, dict(self.headers), body))
                outer.script.pop(0)(self)

            def log_message(self, *_):
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hand-in"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


def says(status, content, kind="application/json", **headers):
    body = content.encode() if isinstance(content, str) else json.dumps(content).encode()

    def answer(handler):
        handler.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": len(body), **headers}.items():
            handler.send_header(name, str(value))
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def hangs_up(handler):
    handler.connection.shutdown(socket.SHUT_RDWR)


def sleeps(handler):
    time.sleep(1.5)


def stalls(handler):
    """Send the headers, and then nothing."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.flush()
    time.sleep(1.5)


def stalls_in_trouble(handler):
    handler.send_response(503)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b"busy")
    time.sleep(1.5)


def hangs_up_early(handler):
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b"{")
    hangs_up(handler)


def drips(handler):
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    for _ in range(30):
        handler.wfile.write(b" ")
        time.sleep(0.1)


def floods(handler):
    handler.send_response(200)
    handler.end_headers()
    with suppress(OSError):
        while True:
            handler.wfile.write(b"a" * 1000)


def floods_busy(handler):
    handler.send_response(503)
    handler.end_headers()
    with suppress(OSError):
        while True:
            handler.wfile.write(b"a" * 1000)


@pytest.fixture
def server():
    server = Server()
    yield server
    server.close()


@pytest.fixture
def send(server, saved, capsys):
    """Return a function that scripts the server and submits; the token must never show."""

    def run(*script, content=GOOD, url=None, **arguments):
        server.script[:] = script
        arguments = {"timeout": 5, "pause": 0, **arguments}
        path = saved(content)
        try:
            return handin.submit(
                path, url or server.url, arguments.pop("token", TOKEN), **arguments
            )
        finally:
            printed = capsys.readouterr()
            assert TOKEN not in printed.out + printed.err
            for file in path.parent.rglob("*"):
                assert file.is_dir() or TOKEN.encode() not in file.read_bytes()

    return run


def refused(error, one_line, *words):
    one_line(error, *words)
    assert TOKEN not in str(error.value)
    assert error.value.__cause__ is None


def test_a_good_answer_is_returned(send, server):
    answer = send(says(200, {"message": "received", "iou": 0.4}))
    assert answer == {"message": "received", "iou": 0.4}
    ((path, headers, body),) = server.requests
    assert path == "/hand-in"
    assert headers["token"] == TOKEN
    assert "Authorization" not in headers
    assert b'name="file"; filename="explain_params.pkl"' in body
    start = body.index(b"\r\n\r\n") + 4
    assert set(pickle.load(io.BytesIO(body[start:]))) == set(handin.KEYS)


@pytest.mark.parametrize("header", ["token", "X-API-Key"])
def test_the_server_of_the_course_reads_the_token_from_its_header(header, send, server):
    """A replica of client and server: multipart ``file``, and the token as a header."""

    def course(handler):
        known = handler.headers[header] == TOKEN
        says(*((200, {"status": "accepted"}) if known else (401, {"detail": "unknown"})))(handler)

    assert send(course, header=header) == {"status": "accepted"}
    other = "X-API-Key" if header == "token" else "token"
    with pytest.raises(WorkbookError, match="token is not accepted"):
        send(course, header=other)


@pytest.mark.parametrize("header", ["", "a b", "x:y", "a\nb"])
def test_what_is_no_name_of_a_header_is_refused(header, send, server, one_line):
    with pytest.raises(WorkbookError) as error:
        send(header=header)
    refused(error, one_line, "no name of a header")
    assert not server.requests


def test_trouble_that_passes_is_waited_for(send, server):
    answer = send(says(503, "busy"), floods_busy, says(500, {"error": "oh"}), says(201, {"id": 7}))
    assert answer == {"id": 7}
    assert len(server.requests) == 4
    assert len({body.split(b"\r\n", 1)[1] for _, _, body in server.requests}) >= 1
    assert all(b"explain_params.pkl" in body for _, _, body in server.requests)


def test_trouble_that_stays_is_reported(send, server, one_line):
    with pytest.raises(WorkbookError) as error:
        send(*[says(503, {"detail": "disk\nfull " + TOKEN})] * 3, retries=2)
    refused(error, one_line, "status 503", "disk full …", "3 times in a row", "try again later")
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (says(401, {"detail": "no " + TOKEN}), ["token is not accepted", "status 401: no …"]),
        (says(403, "<html>Forbidden</html>", "text/html"), ["may not hand in", "403"]),
        (says(404, ""), ["nothing at this address", "check the url", "(status 404)"]),
        (says(413, ""), ["too large"]),
        (says(422, {"message": "kite is missing"}), ["does not accept", "kite is missing"]),
        (says(429, ""), ["too many attempts", "wait"]),
        (says(418, {"error": "teapot"}), ["refuses the file", "418: teapot"]),
        (says(302, "", Location="https://elsewhere.example/"), ["sends you elsewhere", "302"]),
        (says(200, "<html>Welcome</html>", "text/html"), ["no JSON object", "Welcome", "url"]),
        (says(200, [1, 2]), ["no JSON object"]),
        (says(200, "[" * 15_000), ["no JSON object"]),
        (floods, ["no JSON object", "aaaa"]),
    ],
    ids=["401", "403", "404", "413", "422", "429", "418", "302", "html", "list", "deep", "endless"],
)
def test_every_answer_that_means_no_is_clear_and_final(answer, words, send, server, one_line):
    with pytest.raises(WorkbookError) as error:
        send(answer, timeout=1)
    refused(error, one_line, *words)
    assert len(server.requests) == 1, "such an answer is not asked for again"


@pytest.mark.parametrize("slow", [sleeps, stalls, drips])
def test_a_slow_server_is_not_waited_for_nor_asked_again(slow, send, server, one_line):
    start = time.perf_counter()
    with pytest.raises(WorkbookError) as error:
        send(slow, timeout=0.4)
    assert time.perf_counter() - start < 1.4
    refused(error, one_line, "did not answer within 0.4 s", "has arrived")
    assert len(server.requests) == 1


@pytest.mark.parametrize("gone", [hangs_up, hangs_up_early])
def test_a_hang_up_after_the_file_was_sent_is_final(gone, send, server, one_line):
    with pytest.raises(WorkbookError) as error:
        send(gone, says(200, {}))
    refused(error, one_line, "has arrived before you send it again")
    assert len(server.requests) == 1


def test_a_refusal_whose_body_stalls_is_tried_again(send, server):
    assert send(stalls_in_trouble, says(200, {"id": 1}), timeout=2) == {"id": 1}


def test_a_server_that_is_not_there_is_said_not_to_be(send, one_line):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/"
    start = time.perf_counter()
    with pytest.raises(WorkbookError) as error:
        send(url=url, retries=2, pause=0.05)
    refused(error, one_line, "no connection to 127.0.0.1", "3 times in a row")
    assert 0.15 <= time.perf_counter() - start < 5


def test_a_faulty_file_is_not_sent(send, server, one_line):
    with pytest.raises(WorkbookError) as error:
        send(content={**GOOD, "kite": {"image": 1}})
    refused(error, one_line, "was not sent", "kite: image is given by the scoreboard")
    with pytest.raises(WorkbookError) as error:
        send(content=Call(os.system, "true"))
    refused(error, one_line, "is refused")
    assert not server.requests


@pytest.mark.parametrize("url", ["course.example/upload", "ftp://course.example", "https://", ""])
def test_what_is_no_address_is_named(url, saved, one_line):
    with pytest.raises(WorkbookError) as error:
        handin.submit(saved(GOOD), url, TOKEN)
    refused(error, one_line, "no address of a server")


@pytest.mark.parametrize("token", ["", "  ", "a\nb", "ключ"])
def test_a_damaged_token_is_noticed_and_not_shown(token, saved, one_line):
    with pytest.raises(WorkbookError) as error:
        handin.submit(saved(GOOD), "https://course.example", token)
    one_line(error, "the token is empty or damaged")


def test_an_open_line_is_warned_of(saved, one_line):
    with pytest.warns(UserWarning, match="readable by others"), pytest.raises(WorkbookError):
        handin.submit(saved(GOOD), "http://course.example", TOKEN, retries=0)
