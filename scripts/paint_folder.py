"""Paint class folders, an example of images of one's own: Shapes, sorted by the object's colour.

    python scripts/paint_folder.py my_images

Each class gets 60 images in ``my_images/train/<class>/`` and 20 in ``my_images/test/<class>/``.
"""

import sys
from itertools import count
from pathlib import Path

from PIL import Image

from helpers.data.painting import CONCEPTS, paint

_COLOURS = ("blue", "green", "red")
_IMAGES = {"train": 60, "test": 20}  # of each class
_SEED = 1  # other images than those of the data set Shapes


def main(root: Path) -> None:
    """Paint the images, unless something has that name already."""
    if root.exists():
        raise SystemExit(f"{root} is there already: give another name, or delete it")
    for split, n in _IMAGES.items():
        painted = dict.fromkeys(_COLOURS, 0)
        for index in count():
            painting = paint(_SEED, split, index)
            colour = CONCEPTS["colour"][painting.concepts["colour"][painting.mask][0]]
            if painted.get(colour, n) < n:
                folder = root / split / colour
                folder.mkdir(parents=True, exist_ok=True)
                Image.fromarray(painting.image).save(folder / f"{painted[colour]:02d}.png")
                painted[colour] += 1
            if min(painted.values()) == n:
                break
    print(f'Painted {root}: DATASET = "folder:{root.resolve()}" and START = "random" take it.')


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    main(Path(sys.argv[1]))
