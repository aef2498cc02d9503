"""The scoreboard: explanations in a process that can be stopped, and whose hand-in is better."""

import json
import multiprocessing
import os
import pickle
import re
import signal
import threading
import time

import numpy as np
import pytest
import torch
from handing_in import GOOD, HOSTILE, blocks, hand_in, picture
from lime.wrappers.scikit_image import SegmentationAlgorithm
from torch import nn

from helpers.course import handin
from helpers.course.handin import scoreboard, worker
from helpers.data import ImageSet, shapes
from helpers.explain import lime
from helpers.measure.agreement import iou
from helpers.nets import models
from helpers.run.errors import WorkbookError


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
    score = handin.score(params, shapes_classifier(), ten_shapes(), name="mine", seconds=4,
                       stored=stored, progress_bar=False)  # fmt: skip
    return score, params, stored


@pytest.mark.slow
def test_a_score_is_the_overlap_of_the_five_strongest_superpixels_with_the_object(scored):
    score, params, _ = scored
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
    score, *_ = scored
    assert score.ious[4] == 0
    assert score.seconds[4] == 4
    assert score.faults[4] == "stopped after 4 s"
    assert score.faults[5:] == ("",) * 5


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
    score, _, stored = scored
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
    assert score.ranking().loc["me"].tolist() == [pytest.approx(0.3), 1.5, "our masks"]
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
        handin.score({**GOOD, "kite": {"num_samples": 0, "image": 2}}, shapes_classifier())
    one_line(error, "kite: num_samples", "; kite: image")
    with pytest.raises(WorkbookError) as error:
        handin.score(GOOD, shapes_classifier(), shapes.load("test", 9))
    one_line(error, "10 images with masks")


# ---- peers, and a mode that is like the server -------------------------------------------------


def test_the_answers_of_the_server_stand_beside_ours_and_count_for_no_rank():
    assert sorted(handin.PEERS.values()) == [
        (0.3079, 3.13), (0.3081, 4.65), (0.3289, 3.37), (0.3348, 1.95),
    ]  # fmt: skip
    mine = handin.Score("me", "imagenet_ten resnet50", ("a", "b"), (0.3, 0.34), (1, 2), ("", ""),
                        {"her": (0.5, 1.0), "him": (0.1, 1.0)})  # fmt: skip
    board = mine.ranking()
    assert list(board.index) == ["her", "peer 1", "peer 2", "me", "peer 3", "peer 4", "him"]
    assert list(board.loc["peer 1"]) == [0.3348, 1.95, scoreboard.ON_THE_SERVER]
    assert list(board["measured on"] == "our masks") == [
        True,
        False,
        False,
        True,
        False,
        False,
        True,
    ]
    assert mine.rank == 2
    assert "me: rank 2 of 3" in str(mine)
    assert "hidden masks" in str(mine)
    other = handin.Score("me", "shapes shapes_net", ("a",), (0.3,), (1,), ("",), {})
    assert list(other.ranking().index) == ["me"], "they are of the ten photographs"


def ten_blocks():
    pixels = torch.stack([torch.from_numpy(picture(i)).permute(2, 0, 1) for i in range(10)])
    masks = torch.zeros(10, 32, 32, dtype=torch.bool)
    masks[:, :16] = True
    ids = tuple(map(str, range(10)))
    return ImageSet("blocks", "test", pixels, torch.zeros(10).long(), tuple("abcde"), ids, masks)


class Here:
    """Explains in this process."""

    def explain(self, image, arguments, seconds):
        return worker._explain(blocks(), image, arguments, seed=0, superpixels=5)

    def stop(self):
        pass


def test_a_server_like_score_leaves_the_superpixels_to_the_library(tmp_path):
    whole = SegmentationAlgorithm("slic", n_segments=1)
    params = hand_in(num_samples=20, segmentation_fn=whole)
    options = {"stored": tmp_path / "none.json", "progress_bar": False, "worker": Here()}
    with pytest.raises(WorkbookError, match="no image was explained; goldfish: the image is"):
        handin.score(params, blocks(), ten_blocks(), **options)
    alike = handin.score(params, blocks(), ten_blocks(), server_like=True, **options)
    plain = handin.score(hand_in(num_samples=20), blocks(), ten_blocks(), **options)
    assert alike.ious == plain.ious
    assert (alike.subject, plain.subject) == ("blocks blocks, server-like", "blocks blocks")
    assert params["kite"]["segmentation_fn"] is whole


def test_seeds_of_a_hand_in_bring_no_luck_and_batches_no_memory(tmp_path):
    """As in the library, whose sampler never sees random_seed."""
    options = {"stored": tmp_path / "none.json", "progress_bar": False, "worker": Here()}
    plain = handin.score(hand_in(num_samples=20), blocks(), ten_blocks(), **options)
    given = hand_in(num_samples=20, random_seed=7, batch_size=10**9)
    assert handin.score(given, blocks(), ten_blocks(), **options).ious == plain.ious


# ---- strangers' files --------------------------------------------------------------------------

ABSURD = {
    "a trillion iterations": {"segmentation_fn": ("slic", {"max_num_iter": 10**12})},
    "millions of samples": {"num_samples": 20_000_000},
    "a trillion samples": {"num_samples": 10**12},
    "more samples than numbers": {"num_samples": 10**30},
    "a colour of another size": {"hide_color": np.zeros((500, 500, 3))},
    "a class beyond all": {"labels": (10**9,), "top_labels": None},
    "a billion superpixels": {  # there are only as many as pixels, but of each many samples
        "segmentation_fn": ("slic", {"n_segments": 10**9}),
        "num_samples": 10**7,
    },
    "a sigma of a billion": {"segmentation_fn": ("slic", {"n_segments": 9, "sigma": 1e9})},
}


def absurd(kind):
    arguments = dict(ABSURD[kind])
    if "segmentation_fn" in arguments:
        method, settings = arguments["segmentation_fn"]
        arguments["segmentation_fn"] = SegmentationAlgorithm(method, **settings)
    return arguments


@pytest.fixture(scope="module")
def process():
    made = worker.Worker(blocks(), seed=0, superpixels=5)
    yield made
    made.stop()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ABSURD)
def test_absurd_parameters_end_within_time_and_memory_and_the_next_image_is_explained(
    kind, process, one_line
):
    assert handin.validate({**GOOD, "kite": absurd(kind)}) == []
    start = time.perf_counter()
    answer = process.explain(picture(), absurd(kind), seconds=1)
    assert time.perf_counter() - start < 30
    assert answer.mask is None
    one_line(answer.fault)
    assert 0 < len(answer.fault) < 300
    arguments = {"num_samples": 20, "segmentation_fn": SegmentationAlgorithm("slic")}
    assert process.explain(picture(), arguments, seconds=30).fault == ""


@pytest.mark.slow
def test_of_a_hundred_hand_ins_ten_are_hostile_and_ninety_are_scored(tmp_path, one_line):
    """One file after the other, each with ten images; nothing of one is left for the next."""
    slow = [absurd("a trillion iterations"), absurd("more samples than numbers")]
    hostile = [HOSTILE[kind]() for kind in HOSTILE if kind not in ("never ends", "runs code")][:6]
    hostile += [{**GOOD, "kite": {"image": 1}}, *(hand_in(**arguments) for arguments in slow)]
    hostile += [b"no pickle at all"]
    files = {}
    for i in range(100):
        content = hostile[i // 10] if i % 10 == 4 else hand_in(
            num_samples=10 + i // 10, top_labels=1,
            segmentation_fn=SegmentationAlgorithm("slic", n_segments=16),
        )  # fmt: skip
        path = tmp_path / f"{i}.pkl"
        path.write_bytes(content if isinstance(content, bytes) else pickle.dumps(content))
        files[f"student {i}"] = path
    of_others = children()
    table = handin.grade(files, blocks(), ten_blocks(), seconds=2, progress_bar=False)
    scored = table[table["fault"] == ""]
    assert len(table) == 100 and len(scored) == 90
    assert scored["mean IoU"].between(0, 1).all() and (scored["seconds"] > 0).all()
    assert list(table.index[:90]) == list(scored.index), "the best first, then those without"
    assert {int(name.split()[1]) % 10 for name in table.index[90:]} == {4}
    for line in table["fault"][90:]:
        one_line(line)
        assert 20 < len(line) < 400
    assert "given up: goldfish (stopped after 2 s), tiger" in table["fault"]["student 74"]
    assert children() == of_others


@pytest.mark.slow
def test_a_process_that_is_killed_again_and_again_costs_one_hand_in(process, tmp_path, one_line):
    """As the system does where memory is short."""
    options = {"stored": tmp_path / "none.json", "progress_bar": False, "worker": process}
    over = threading.Event()

    def kill():
        while not over.wait(0.5):
            for pid in children():
                os.kill(pid, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(WorkbookError) as error:
        params = hand_in(**absurd("a trillion iterations"))
        handin.score(params, blocks(), ten_blocks(), seconds=20, **options)
    over.set()
    killer.join()
    one_line(error, "process")
    good = hand_in(num_samples=20, segmentation_fn=SegmentationAlgorithm("slic"))
    assert not any(handin.score(good, blocks(), ten_blocks(), **options).faults)
