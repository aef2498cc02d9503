"""Paint class folders, an example of images of one's own: hearts, rings and stars.

    python scripts/paint_folder.py my_images

Each class gets 60 images in ``my_images/train/<class>/`` and 20 in ``my_images/test/<class>/``.
"""

import sys
from pathlib import Path

from PIL import Image

from helpers.data.painting import CLASSES, paint

_PAINTED = ("heart", "ring", "star")
_IMAGES = {"train": 60, "test": 20}  # of each class
_SEED = 1  # other images than those of the data set Shapes


def main(root: Path) -> None:
    """Paint the images, unless something has that name already."""
    if root.exists():
        raise SystemExit(f"{root} is there already: give another name, or delete it")
    for split, n in _IMAGES.items():
        for name in _PAINTED:
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(n):
                index = i * len(CLASSES) + CLASSES.index(name)
                Image.fromarray(paint(_SEED, split, index).image).save(folder / f"{i:02d}.png")
    print(f'Painted {root}: DATASET = "folder:{root.resolve()}" and START = "random" take it.')


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    main(Path(sys.argv[1]))
