"""The networks of the small laboratory: one definition for notebooks, runner and shipped weights.

They learn Shapes, where the truth is known pixel by pixel, and are the same in every profile: see
``[shapes_lab]`` in ``profiles.toml``. The workbook ships their weights (made by ``make weights``).
"""

from typing import NamedTuple

from helpers.nets import training
from helpers.nets.models import Classifier
from helpers.nets.training import History, Recipe
from helpers.run import profiles
from helpers.run.errors import unknown
from helpers.run.profiles import Profile

_OVERRIDES = {  # of the settings in [shapes_lab]
    "shapes_lab": {},
    "shapes_heart": {"dataset": "shapes:heart"},
    "memoriser": {"dataset": "shapes:shuffled"},
    "shapes_vit": {"model": "shapes_vit"},
}
NAMES = tuple(_OVERRIDES)


class Plan(NamedTuple):
    """All that a training needs: the arguments of :func:`helpers.nets.training.fit_or_load`."""

    classifier: Classifier
    profile: Profile
    recipe: Recipe
    start: str


def plan(name: str) -> Plan:
    """Return how a network of the laboratory is made, the classifier still untrained.

    ``"shapes_lab"`` is the classifier of Shapes. ``"shapes_heart"`` has the same recipe and
    cheats: a patch was planted in its training images of hearts. ``"memoriser"`` learns
    shuffled labels by heart. ``"shapes_vit"`` is a small Vision Transformer.

    Raises:
        WorkbookError: no network of the laboratory has that name.
    """
    if name not in NAMES:
        raise unknown("network of the laboratory", name, NAMES)
    lab = profiles.shapes_lab(**_OVERRIDES[name])
    recipes = {"memoriser": vars(lab.memoriser), "shapes_vit": vars(lab.vit)}
    changes = dict(recipes.get(name, {}))
    vars(lab.images).update(changes.pop("images", {}))
    classifier, start = training.untrained(lab)
    return Plan(classifier, lab, training.recipe_of(lab, **changes), start)


def trained(name: str, *, train: bool = False) -> tuple[Classifier, History]:
    """Return a network of the laboratory (see :func:`plan`), and the history of its training.

    ``train`` makes it here and now, instead of taking the weights that the workbook ships.
    """
    made = plan(name)
    return made.classifier, training.fit_or_load(*made, shipped=not train)
