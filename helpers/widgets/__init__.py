"""Explorers: sliders and menus beside the picture that they draw.

Each is one call in the last line of a cell. A live front end shows the controls; a rendered page
shows the first picture.
"""

from helpers.widgets.explorer import Explorer
from helpers.widgets.network import cam, feature_maps
from helpers.widgets.superpixels import lime
from helpers.widgets.units import most_exciting, units

__all__ = ["Explorer", "cam", "feature_maps", "lime", "most_exciting", "units"]
