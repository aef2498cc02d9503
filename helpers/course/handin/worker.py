"""A process of its own for explanations that may take too long, so that they can be stopped."""

import logging
import multiprocessing
import os
import pickle
import time
from threading import RLock
from typing import NamedTuple

import numpy as np
import torch
from pebble import ProcessExpired, ProcessPool
from torch import Tensor
from tqdm import tqdm

from helpers.course.handin.unpickle import set_limits
from helpers.explain.lime import LimeImageExplainer, mask
from helpers.nets.models import Classifier
from helpers.run.errors import WorkbookError

_START = 120  # seconds to import the workbook and load a model
_MEMORY = 4 * 2**30  # bytes for explanations; the library's defaults take a twentieth
_here: dict[str, object] = {}  # what the other process keeps from image to image

# A forked process may not use threads, nor a GPU. A server that has only imported the workbook
# may be forked, so that the next process after one that was stopped is there at once.
if "forkserver" in multiprocessing.get_all_start_methods():
    _CONTEXT = multiprocessing.get_context("forkserver")
    _CONTEXT.set_forkserver_preload([__name__])
else:
    _CONTEXT = multiprocessing.get_context("spawn")


class Answer(NamedTuple):
    """What became of one explanation."""

    seconds: float
    mask: Tensor | None  # bool [H, W]; None where there is no explanation of the top class
    fault: str = ""
    lost: bool = False  # the process was stopped, or ended


class Worker:
    """Explains in another process, and is stopped when an explanation takes too long.

    A thread could not be stopped, and a signal waits until compiled code returns.

    Args:
        classifier: the model; the process gets a copy.
        seed: of the states, whatever the arguments say: the library's sampler does not see theirs.
        superpixels: how many of the strongest supporting ones make the mask.
    """

    def __init__(self, classifier: Classifier, seed: int, superpixels: int) -> None:
        self._job = (pickle.dumps(classifier), torch.get_num_threads(), seed, superpixels)
        self._start()

    def _start(self) -> None:
        self._pool = ProcessPool(1, 0, _prepare, self._job, _CONTEXT)
        try:
            self.pid = self._pool.schedule(os.getpid).result(_START)
        except (OSError, RuntimeError):  # it ended, or took too long
            self.stop()
            raise WorkbookError(
                "the process that explains did not start: call handin.score from a notebook, or in "
                "a script under if __name__ == '__main__'"
            ) from None

    def explain(self, image: np.ndarray, arguments: dict, seconds: float) -> Answer:
        """Explain the top class of an image uint8 [H, W, 3], in at most so many seconds."""
        for _ in range(2):
            try:
                job = self._pool.schedule(_explain_here, (image, arguments), timeout=seconds)
                return job.result(_START + seconds)
            except TimeoutError:
                return Answer(seconds, None, f"stopped after {seconds:g} s", lost=True)
            except ProcessExpired:
                break
            except RuntimeError:  # the process ended while it had nothing to do
                self.stop()
                self._start()
        fault = "the process ended, perhaps for want of memory"
        return Answer(seconds, None, fault, lost=True)

    def stop(self) -> None:
        """End the process, whatever it is doing."""
        self._pool.stop()
        self._pool.join()


def _prepare(model: bytes, threads: int, seed: int, superpixels: int) -> None:
    """Get ready in the other process."""
    logging.disable()  # pebble logs what Worker reports as an error
    tqdm.set_lock(RLock())  # the usual one, of all processes, would outlive a killed one
    torch.set_num_threads(threads)
    classifier = pickle.loads(model)  # our own, handed over a moment ago
    size = classifier.input_size
    classifier.probabilities(torch.zeros(16, 3, size, size))  # the first pass is slower
    set_limits(_MEMORY)
    _here.update(classifier=classifier, seed=seed, superpixels=superpixels)


def _explain_here(image: np.ndarray, arguments: dict) -> Answer:
    return _explain(image=image, arguments=arguments, **_here)


def _explain(
    classifier: Classifier, image: np.ndarray, arguments: dict, seed: int, superpixels: int
) -> Answer:
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
    top = int(classifier.logits(pixels).argmax())
    arguments = {k: v for k, v in arguments.items() if k not in ("batch_size", "random_seed")}
    start, seconds = time.perf_counter(), None
    try:
        if arguments.get("hide_color") is not None:  # as the library has NumPy read it
            painted = np.empty_like(image)
            painted[:] = arguments["hide_color"]
            arguments["hide_color"] = painted
        explanation = LimeImageExplainer(seed=seed).explain_instance(
            image, classifier, **{**arguments, "progress_bar": False}
        )
        seconds = time.perf_counter() - start
        if top not in explanation.local_exp:
            return Answer(seconds, None, f"the predicted class {top} was not explained")
        return Answer(seconds, mask(explanation, top, superpixels))
    except Exception as error:  # the arguments are somebody else's
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        return Answer(seconds or time.perf_counter() - start, None, reason)
