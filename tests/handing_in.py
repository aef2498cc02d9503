"""What the tests of the hand-in share: hand-ins, files of them, and hostile ones."""

import os
import pickle

import numpy as np
import torch
from lime.wrappers.scikit_image import SegmentationAlgorithm
from torch import nn

from helpers.course import handin
from helpers.nets.models import Classifier

GOOD = handin.DEFAULTS


def hand_in(**arguments):
    return {key: dict(arguments) for key in handin.KEYS}


def in_place(name, value):
    return {**GOOD, "kite": {name: value}}


def fitted(regressor):
    rng = np.random.default_rng(0)
    return regressor.fit(rng.random((30, 4)), rng.random(30), sample_weight=rng.random(30))


def quickshift():
    return SegmentationAlgorithm("quickshift", kernel_size=4, max_dist=20, ratio=0.2)


class Call:
    """Pickles as a call of any function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


# ---- pickles that call nothing, and would still do harm ----------------------------------------


def laughs(depth=60):
    """Return a list of 2^depth words, all of them the same."""
    found = ["ha"]
    for _ in range(depth):
        found = [found, found]
    return found


def endless():
    """Return a pickle whose key takes 2^60 steps to hash."""
    nested = ("ha",)
    for _ in range(60):
        nested = (nested, nested)
    # Such a tuple as a key: the empty dictionary is made first, and the key set by hand.
    return b"\x80\x02}" + pickle.dumps(nested, 2)[2:-1] + b"Ns."


def enormous():
    """Return a pickle of 2 MB that has the same text encoded five thousand times, 10 GB."""
    text = b"X" + (2_000_000).to_bytes(4, "little") + b"x" * 2_000_000 + b"q\x01"
    names = b"c_codecs\nencode\nq\x00" + text + b"X\x06\x00\x00\x00latin1q\x02000"
    return b"\x80\x02]" + names + (b"(" + b"h\x00h\x01h\x02\x86R" * 5000 + b"e.")


def deep(depth=100_000):
    """Return a pickle of tuples in tuples, as a value and as a key."""
    nested = b")" + b"\x85" * depth
    return b"\x80\x02}(X\x04\x00\x00\x00kite" + nested + nested + b"Nu."


def many_keys():
    """Return a dictionary with as many keys as fit into the file."""
    return dict.fromkeys(range(700_000))


HOSTILE = {
    "runs code": lambda: Call(os.system, "true"),
    "never ends": endless,
    "10 GB of text": enormous,
    "billion laughs": lambda: in_place("labels", laughs()),
    "billion laughs in a dictionary": lambda: in_place("hide_color", {"a": laughs()}),
    "100,000 deep": deep,
    "frame without an end": lambda: b"\x80\x04\x95" + (2**63 - 1).to_bytes(8, "little") + b"}.",
    "8 EB of bytes": lambda: b"\x80\x04\x8e" + (2**62).to_bytes(8, "little") + b"x.",
    "1 TB of bytes": lambda: b"\x80\x04\x8e" + (2**40).to_bytes(8, "little") + b"x.",
    "memo of 64 GB": lambda: b"\x80\x02}r\xff\xff\xff\xff.",
    "set of a trillion": lambda: b"\x80\x02cbuiltins\nset\ncbuiltins\nrange\n\x8a\x06"
    + (10**12).to_bytes(6, "little") + b"\x85R\x85R.",
    "700,000 keys": many_keys,
    "700,000 arguments": lambda: {**GOOD, "kite": many_keys()},
}  # fmt: skip


# ---- a classifier of which a picture takes a moment --------------------------------------------


class Blocks(nn.Module):
    """Five classes, linear in the mean colours of the sixteen blocks of a picture."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.weights = nn.Linear(48, 5)

    def forward(self, images):
        return self.weights(nn.functional.avg_pool2d(images, 8).flatten(1) * 5)


def blocks():
    return Classifier("blocks", Blocks().eval(), tuple("abcde"), 32, (0, 0, 0), (1, 1, 1))


def picture(seed=0):
    colours = np.random.default_rng(seed).integers(0, 255, (4, 4, 3))
    return np.kron(colours, np.ones((8, 8, 1))).astype(np.uint8)
