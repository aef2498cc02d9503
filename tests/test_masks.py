"""Outlines: drawn polygons become masks that lie on the object, in the view of the image."""

import json
import runpy
from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from skimage.segmentation import find_boundaries

from helpers import data
from helpers.data import folders, imagenet
from helpers.run import files
from helpers.run.errors import WorkbookError

SIZE = 224
RED = (255, 0, 0)


def outline(polygons=((),), width=40, height=20):
    return imagenet.Outline(width, height, "a thing", "", "by hand", polygons)


def square(left, top, right, bottom):
    return ((left, top), (right, top), (right, bottom), (left, bottom))


# ---- from polygons to masks --------------------------------------------------------------------


def test_a_pixel_belongs_to_the_object_if_half_of_it_does():
    drawn = imagenet.rasterise(outline([square(2, 3, 5.7, 9.3)], 20, 20), 20, crop=1)
    expected = np.zeros((20, 20), bool)
    expected[3:9, 2:6] = True
    assert (drawn == expected).all()


def test_the_object_is_the_union_of_its_polygons():
    left, right = square(0, 0, 12, 20), square(8, 5, 20, 10)
    both = imagenet.rasterise(outline([left, right], 20, 20), 40, crop=1)
    one_by_one = [imagenet.rasterise(outline([p], 20, 20), 40, crop=1) for p in (left, right)]
    assert (both == (one_by_one[0] | one_by_one[1])).all()
    assert both.sum() == 40 * 24 + 16 * 10


@pytest.mark.parametrize("size", [28, 56, 224])
@pytest.mark.parametrize(("width", "height"), [(96, 64), (50, 90)])
def test_a_mask_lies_where_the_image_is_cropped_to(width, height, size):
    """A red rectangle is painted, encoded and cropped: its mask must be where the red is."""
    box = (21, 17, 40, 45)
    image = np.zeros((height, width, 3), np.uint8)
    image[box[1] : box[3], box[0] : box[2]] = RED
    data = files_bytes(image)
    seen = folders.decode(data, "red.png", size, crop=0.875)[0] > 127
    mask = imagenet.rasterise(outline([square(*box)], width, height), size)
    assert (mask & seen).sum() / (mask | seen).sum() > 0.93
    ends = [np.flatnonzero(m.any(axis))[[0, -1]] for m in (mask, seen) for axis in (0, 1)]
    assert np.abs(np.subtract(ends[:2], ends[2:])).max() <= 1


def files_bytes(image):
    buffer = BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


# ---- the ten outlines --------------------------------------------------------------------------


def area(polygon):
    x, y = np.array(polygon).T
    return abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2


@pytest.mark.parametrize("name", imagenet.TEN)
def test_an_outline_is_whole_and_says_how_it_was_drawn(name):
    drawn = imagenet.outline(name)
    given = json.loads(
        (files.ROOT / "data" / "masks" / f"{name.removeprefix('imagenet_')}.json").read_text()
    )
    assert given["image"] == name.removeprefix("imagenet_") + ".JPEG"
    for polygon in drawn.polygons:
        assert 3 <= len(polygon) <= 110
        assert area(polygon) > 50
        assert all(0 <= x <= drawn.width and 0 <= y <= drawn.height for x, y in polygon)
    if drawn.polygons:
        assert "by hand" in drawn.drawn
        assert drawn.object
    else:
        assert not drawn.object
        assert len(drawn.note) > 20


@pytest.mark.parametrize("name", [n for n in imagenet.TEN if "kite" not in n])
def test_an_outlined_object_is_mostly_in_view_and_a_cut_is_noted(name):
    drawn = imagenet.outline(name)
    side = 0.875 * min(drawn.width, drawn.height)
    # The mask of the whole picture, laid on a square, so that nothing is cut.
    larger = max(drawn.width, drawn.height)
    whole = imagenet.rasterise(shifted(drawn, larger), larger, crop=1).sum()
    inside = imagenet.rasterise(drawn, SIZE).sum() * (side / SIZE) ** 2 / whole
    assert inside > 0.8
    assert ("outside the crop" in drawn.note) == (inside < 0.99)


def shifted(drawn, larger):
    dx, dy = (larger - drawn.width) / 2, (larger - drawn.height) / 2
    moved = [[(x + dx, y + dy) for x, y in polygon] for polygon in drawn.polygons]
    return drawn._replace(width=larger, height=larger, polygons=moved)


def test_only_the_kite_has_no_outline():
    ((name, why),) = imagenet.mask_notes().items()
    assert name == "imagenet_n01608432_kite"
    assert "no kite" in why


def test_no_outline_is_read_until_one_is_asked_for(tmp_root, one_line):
    """One damaged outline must not stop a run that needs none: models import this module."""
    module = runpy.run_path(imagenet.__file__)
    assert module["TEN"] == imagenet.TEN
    with pytest.raises(WorkbookError) as error:
        module["mask_notes"]()
    one_line(error, "data/masks/n01443537_goldfish.json", "missing")


@pytest.mark.parametrize(
    "content", [None, "{", "[]", '{"width": 3}', '{"polygons": 3}', '{"polygons": [[1, 2]]}']
)
def test_a_damaged_outline_is_named(content, tmp_root, one_line):
    if content is not None:
        (tmp_root / "data" / "masks").mkdir(parents=True)
        (tmp_root / "data" / "masks" / "cat.json").write_text(content)
    with pytest.raises(WorkbookError) as error:
        imagenet.outline("cat")
    one_line(error, "data/masks/cat.json", "restore it")


# ---- on the images -----------------------------------------------------------------------------


@pytest.fixture
def ten():
    return data.load("imagenet_ten")


@pytest.mark.mirror
def test_the_ten_images_come_with_their_masks(ten):
    assert ten.masks.shape == (10, SIZE, SIZE)
    assert ten.masks.dtype == imagenet.torch.bool
    assert [name for name, m in zip(ten.ids, ten.masks, strict=True) if not m.any()] == list(
        imagenet.mask_notes()
    )


@pytest.mark.mirror
def test_outlines_fit_the_size_of_their_images():
    for name in imagenet.TEN:
        drawn = imagenet.outline(name)
        with Image.open(data.assets.fetch(name).path) as image:
            assert image.size == (drawn.width, drawn.height)


@pytest.mark.mirror
def test_outlines_run_along_edges(ten):
    """The image changes more along an outline than along the same outline moved by six pixels."""
    for name, image, mask in zip(ten.ids, ten.images, ten.masks, strict=True):
        if not mask.any():
            continue
        change = np.hypot(*np.gradient(image.numpy(), axis=(1, 2))).sum(axis=0)
        line = find_boundaries(mask.numpy(), mode="thick")
        for shift in ((6, 0), (-6, 0), (0, 6), (0, -6)):
            moved = np.roll(line, shift, (0, 1))
            assert change[line].mean() > 1.1 * change[moved].mean(), (name, shift)
