"""Classifiers: a network by name, its weights, and all that is needed to show it images."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from helpers.data import assets, places
from helpers.data.cifar import CLASSES as CIFAR10_CLASSES
from helpers.data.imagenet import CLASSES as IMAGENET_CLASSES
from helpers.nets.architectures import ARCHITECTURES, Architecture
from helpers.nets.recording import activations, find_layer
from helpers.run.errors import WorkbookError, unknown

IMAGENET_STATISTICS = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CIFAR_STATISTICS = ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))


@dataclass
class Classifier:
    """A network, and all that is needed to show it images and to look inside.

    Attributes:
        name: its architecture, a key of :data:`ARCHITECTURES`.
        network: the module, in eval mode; maps normalised images to logits [N, K].
        class_names: one name per logit.
        input_size: height and width that it expects, in pixels.
        mean, std: per channel, of images in [0, 1].
        note: provenance of its weights where they are not the original ones.
    """

    name: str
    network: nn.Module
    class_names: tuple[str, ...]
    input_size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    note: str = ""

    @property
    def architecture(self) -> Architecture:
        """Its family: the names of the first, deeper, last and target layers."""
        return ARCHITECTURES[self.name]

    @property
    def target(self) -> nn.Module:
        """The layer that CAM methods explain."""
        return self.layer(self.architecture.target)

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        return next(self.network.parameters()).device

    def layer(self, name: str) -> nn.Module:
        """Return a layer by its dotted name.

        Raises:
            WorkbookError: no layer has that name; the nearest names are offered.
        """
        return find_layer(self, name)[1]

    def preprocess(self, images: Tensor) -> Tensor:
        """Scale float images [N, 3, H, W] in [0, 1] to the input size, and normalise them."""
        if images.ndim != 4 or images.shape[1] != 3 or not images.is_floating_point():
            raise WorkbookError(
                f"{self.name} takes float images [N, 3, H, W] in [0, 1], not "
                f"{images.dtype} {list(images.shape)}"
            )
        images = images.to(self.device)
        size = (self.input_size, self.input_size)
        if images.shape[-2:] != size:
            images = F.interpolate(images, size, mode="bilinear", antialias=True)
        mean, std = (images.new_tensor(v).view(3, 1, 1) for v in (self.mean, self.std))
        return (images - mean) / std

    def answer(self, inputs: Tensor) -> Tensor:
        """Return what the network says of preprocessed images [N, 3, H, W]: logits [N, K].

        Raises:
            WorkbookError: it says something else, such as one logit, or a dictionary.
        """
        said = self.network(inputs)
        if not isinstance(said, Tensor):
            inside = f" ({', '.join(map(str, said))})" if isinstance(said, Mapping) else ""
            raise WorkbookError(
                f"the network {self.name} gives a {type(said).__name__}{inside}, not one tensor of "
                "logits [N, classes]: wrap it in a module whose forward returns the logits alone"
            )
        if said.shape == inputs.shape[:1] or said.shape[1:] == (1,):
            raise WorkbookError(
                f"the network {self.name} gives one logit z per image, not one per class: wrap it "
                "in a module that returns two, [0, z], whose softmax is the sigmoid of z"
            )
        if said.ndim != 2 or said.shape[1] != len(self.class_names):
            raise WorkbookError(
                f"the network {self.name} gives {list(said.shape[1:])} per image and has "
                f"{len(self.class_names)} class names: it must give one logit for each of them"
            )
        return said

    @torch.inference_mode()
    def logits(self, images: Tensor, batch_size: int = 256) -> Tensor:
        """Return float32 logits [N, K] on the CPU for images [N, 3, H, W] in [0, 1].

        Raises:
            WorkbookError: the network answers NaN, as its weights are damaged, or something else
                than logits (see :meth:`answer`).
        """
        self.network.eval()
        parts = [self.answer(self.preprocess(b)).float().cpu() for b in images.split(batch_size)]
        logits = torch.cat(parts)
        if not logits.isfinite().all():
            raise WorkbookError(
                f"{self.name} answers NaN: its weights are damaged; delete its file in "
                "data/checkpoints and train again"
            )
        return logits

    def probabilities(self, images: Tensor, batch_size: int = 256) -> Tensor:
        """Return softmax probabilities [N, K] on the CPU; see :meth:`logits`."""
        return self.logits(images, batch_size).softmax(dim=1)

    def map_size(self, layer: str | None = None) -> tuple[int, ...]:
        """Return the output shape (channels, height, width) of a layer, the target if None."""
        layer = layer or self.architecture.target
        nothing = torch.zeros(1, 3, self.input_size, self.input_size)
        return tuple(activations(self, layer, nothing).shape[1:])

    def to(self, device: str | torch.device) -> Self:
        """Move the network to a device, and return the classifier."""
        self.network.to(device)
        return self


def best_device() -> torch.device:
    """Return the CUDA GPU where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def build(
    name: str, class_names: tuple[str, ...], input_size: int,
    statistics: tuple = IMAGENET_STATISTICS, seed: int = 0,
) -> Classifier:  # fmt: skip
    """Build an untrained classifier; inputs of up to 64 pixels get a small stem.

    The same ``seed`` gives the same random weights.

    Raises:
        WorkbookError: no architecture has that name, or it does not take that input size.
    """
    if name not in ARCHITECTURES:
        raise unknown("model", name, ARCHITECTURES)
    architecture = ARCHITECTURES[name]
    if architecture.sizes and input_size not in architecture.sizes:
        sizes = " or ".join(map(str, architecture.sizes))
        raise WorkbookError(
            f"{name} takes images of {sizes} pixels, not {input_size}: choose another model, or "
            "another size in profiles.toml"
        )
    with torch.random.fork_rng(devices=[]):  # the reader's own random numbers go on as they were
        torch.default_generator.manual_seed(seed)
        network = architecture.build(len(class_names), input_size <= 64).eval()
    return Classifier(name, network, tuple(class_names), input_size, *statistics)


def pretrained(name: str, data: str = "imagenet") -> Classifier:
    """Load a classifier with public weights, in eval mode on the best device.

    They were trained on ``data``: ``"imagenet"``, ``"places365"`` or ``"cifar10"``.

    Raises:
        WorkbookError: there are no such weights, they cannot be fetched, or they do not fit.
    """
    if data not in PRETRAINED:
        raise unknown("training data", data, PRETRAINED)
    if name not in PRETRAINED[data]:
        raise unknown(f"model with {data} weights", name, PRETRAINED[data])
    asset, statistics = PRETRAINED[data][name]
    weights, note = assets.state_dict(asset)
    match data:
        case "imagenet":
            classes, size = IMAGENET_CLASSES, 224
        case "places365":
            classes, size = places.classes(), 224
        case "cifar10":
            classes, size = CIFAR10_CLASSES, 32
    classifier = build(name, classes, size, statistics)
    load_weights(classifier.network, weights, asset)
    return replace(classifier, note=note).to(best_device())


def load_weights(network: nn.Module, weights: dict[str, Tensor], source: str) -> None:
    """Load weights, or say which keys do not fit.

    Raises:
        WorkbookError: keys are missing, left over, or of another shape.
    """
    own = network.state_dict()
    faults = {
        # BatchNorm counts its batches; old files lack the counter and inference needs none.
        "lacks": [k for k in own if k not in weights and not k.endswith("num_batches_tracked")],
        "has in addition": [k for k in weights if k not in own],
        "has in another shape": [
            k for k in own if k in weights and own[k].shape != weights[k].shape
        ],
    }
    if any(faults.values()):
        told = "; ".join(
            f"{fault} {', '.join(keys[:3])}{' …' if len(keys) > 3 else ''}"
            for fault, keys in faults.items()
            if keys
        )
        raise WorkbookError(f"the weights of {source} are of another architecture: {told}")
    network.load_state_dict(weights, strict=False)


_ON_IMAGENET = (
    "resnet18", "resnet50", "densenet121", "mobilenet_v2", "squeezenet1_0", "vit_b_16",
)  # fmt: skip

# Per training data and architecture: the asset of the weights, and mean and std of its inputs.
PRETRAINED: dict[str, dict[str, tuple[str, tuple]]] = {
    "imagenet": {name: (f"imagenet_{name}", IMAGENET_STATISTICS) for name in _ON_IMAGENET},
    "places365": {"resnet18": ("places365_resnet18", IMAGENET_STATISTICS)},
    "cifar10": {
        "resnet18": ("cifar10_resnet18", CIFAR_STATISTICS),
        "resnet20": ("cifar10_resnet20", IMAGENET_STATISTICS),
        "resnet56": ("cifar10_resnet56", IMAGENET_STATISTICS),
    },
}
