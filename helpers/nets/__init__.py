"""Networks: build, load and train them, record what their layers put out, cut and fold them."""

from helpers.nets.models import Classifier, best_device, build, pretrained
from helpers.nets.recording import activations, edited, receptive_field, record, unit_means

__all__ = [
    "Classifier", "activations", "best_device", "build", "edited", "pretrained",
    "receptive_field", "record", "unit_means",
]  # fmt: skip
