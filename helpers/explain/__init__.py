"""Every way to explain a prediction, through one call: images in, heatmaps out.

    heat = explain("gradcam", classifier, images, classes)  # float32 [N, H, W] in [0, 1]

``METHODS`` lists what there is: the printed name of each method, its family, what it needs of a
network, whether it has a sign, and its paper. A new method is one function and one entry in
:mod:`.methods`; figures, tables and tests find it there.

    def gradient(classifier: Classifier, images: Tensor, classes: Tensor) -> Tensor:
        inputs = classifier.preprocess(images).requires_grad_()
        classifier.network(inputs)[range(len(images)), classes].sum().backward()
        return inputs.grad.abs().sum(dim=1)  # [N, H, W]

    Method("gradient", "gradient", "gradient", "gradients", False, "Simonyan et al. 2014", gradient)
"""

from helpers.explain.by_hiding import mean_colour
from helpers.explain.methods import BASELINES, METHODS, Method, explain, of_family, scaled
from helpers.explain.segments import segment

__all__ = [
    "BASELINES", "METHODS", "Method", "explain", "mean_colour", "of_family", "scaled", "segment",
]  # fmt: skip
