"""A process of its own for explanations that may take too long, so that they can be stopped."""

from __future__ import annotations

import pickle
import time
from multiprocessing import get_context
from multiprocessing.connection import Connection
from threading import RLock
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from helpers.explain.lime import LimeImageExplainer, mask
from helpers.nets.models import Classifier
from helpers.run.errors import WorkbookError

_START = 120  # seconds to import the workbook and load a model


class Answer(NamedTuple):
    """What became of one explanation."""

    seconds: float
    mask: Tensor | None  # bool [H, W]; None where there is no explanation of the top class
    fault: str = ""


class Worker:
    """Explains in another process, and is stopped when an explanation takes too long.

    A thread could not be stopped, and a signal waits until compiled code returns.

    Args:
        classifier: the model; the process gets a copy.
        seed: of explanations that bring none.
        superpixels: how many of the strongest supporting ones make the mask.
    """

    def __init__(self, classifier: Classifier, seed: int, superpixels: int) -> None:
        self._job = (pickle.dumps(classifier), torch.get_num_threads(), seed, superpixels)
        self._start()

    def _start(self) -> None:
        context = get_context("spawn")  # a forked process may not use threads, nor a GPU
        self._pipe, other_end = context.Pipe()
        self._process = context.Process(target=_serve, args=(other_end, *self._job), daemon=True)
        self._process.start()
        other_end.close()
        try:
            ready = self._pipe.poll(_START) and self._pipe.recv()
        except EOFError:
            ready = False
        if not ready:
            self.stop()
            raise WorkbookError(
                "the process that explains did not start: call handin.score from a notebook, or in "
                "a script under if __name__ == '__main__'"
            )

    def explain(self, image: np.ndarray, arguments: dict, seconds: float) -> Answer:
        """Explain the top class of an image uint8 [H, W, 3], in at most so many seconds."""
        self._pipe.send((image, arguments))
        try:
            if self._pipe.poll(seconds):
                return self._pipe.recv()
            fault = f"stopped after {seconds:g} s"
        except EOFError:
            fault = "the process ended, perhaps for want of memory"
        self.stop()
        self._start()
        return Answer(seconds, None, fault)

    def stop(self) -> None:
        """End the process, whatever it is doing."""
        self._process.kill()
        self._process.join()
        self._pipe.close()


def _serve(pipe: Connection, model: bytes, threads: int, seed: int, superpixels: int) -> None:
    """Answer each image and its arguments until the other side is gone."""
    tqdm.set_lock(RLock())  # the usual one, of all processes, would outlive a killed one
    torch.set_num_threads(threads)
    classifier = pickle.loads(model)  # our own, handed over a moment ago
    size = classifier.input_size
    classifier.probabilities(torch.zeros(16, 3, size, size))  # the first pass is slower
    pipe.send(True)
    while True:
        try:
            image, arguments = pipe.recv()
        except EOFError:
            return
        pipe.send(_explain(classifier, image, arguments, seed, superpixels))


def _explain(
    classifier: Classifier, image: np.ndarray, arguments: dict, seed: int, superpixels: int
) -> Answer:
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
    top = int(classifier.logits(pixels).argmax())
    start = time.perf_counter()
    try:
        explanation = LimeImageExplainer(seed=seed).explain_instance(
            image, classifier, **{**arguments, "progress_bar": False}
        )
    except Exception as error:  # the arguments are somebody else's
        reason = " ".join(str(error).split()) or type(error).__name__
        return Answer(time.perf_counter() - start, None, reason)
    seconds = time.perf_counter() - start
    if top not in explanation.local_exp:
        return Answer(seconds, None, f"the predicted class {top} was not explained")
    return Answer(seconds, mask(explanation, top, superpixels))
