"""Explorers: sliders and menus beside the picture that they draw.

Each is one call in the last line of a cell. A live front end shows the controls; a rendered page
shows the first picture.
"""

from helpers.course.explorers.explorer import Explorer
from helpers.course.explorers.network import cam, feature_maps, lime
from helpers.course.explorers.units import browse, most_exciting, units

__all__ = ["Explorer", "browse", "cam", "feature_maps", "lime", "most_exciting", "units"]
