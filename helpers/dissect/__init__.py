"""Network dissection: what single units of a network detect, in words.

- :mod:`.netdissect`: NetDissect, on images whose pixels are labelled;
- :mod:`.similarity` and :mod:`.clip`: CLIP-Dissect, on any images;
- :mod:`.units`: tables of labelled units, and comparisons of them;
- :mod:`.concepts`: concept sets, and the category of each word.
"""

from helpers.dissect.clip import Encoder, clip_dissect, images_by_words, unit_activations
from helpers.dissect.netdissect import Dissection, ablated, dissect, thresholds
from helpers.dissect.similarity import SIMILARITIES, cosine_cubed, rank_reorder, soft_wpmi, wpmi
from helpers.dissect.units import UnitLabels, agreement, compare, from_scores

__all__ = [
    "SIMILARITIES", "Dissection", "Encoder", "UnitLabels", "ablated", "agreement", "clip_dissect",
    "compare", "cosine_cubed", "dissect", "from_scores", "images_by_words", "rank_reorder",
    "soft_wpmi", "thresholds", "unit_activations", "wpmi",
]  # fmt: skip
