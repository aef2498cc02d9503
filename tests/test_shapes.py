"""Shapes: the same arguments paint the same image, and the truth beside it is the truth."""

from colorsys import rgb_to_hsv

import numpy as np
import pytest
import torch

from helpers import data
from helpers.data import painting, shapes
from helpers.run.errors import WorkbookError

SHELF = shapes._shelf  # all other tests share a folder


@pytest.fixture(scope="module")
def images():
    return shapes.load("test", 400)


def test_the_same_arguments_paint_the_same_image():
    first, second = (shapes.paint(3, "train", 17) for _ in range(2))
    assert np.array_equal(first.image, second.image)
    assert np.array_equal(first.mask, second.mask)
    assert all(np.array_equal(first.concepts[c], second.concepts[c]) for c in shapes.CONCEPTS)


# ---- painted once, kept, and read --------------------------------------------------------------


@pytest.fixture
def own_shelf(tmp_path, monkeypatch):
    """An empty folder for painted images, of which each block is small."""
    monkeypatch.setattr(shapes, "_shelf", lambda: tmp_path / "painted")
    monkeypatch.setattr(shapes, "BLOCK", 10)
    return tmp_path / "painted"


def no_brush(*arguments):
    raise AssertionError("it was painted again")


def same(first, second):
    assert torch.equal(first.pixels, second.pixels)
    assert torch.equal(first.masks, second.masks)
    assert all(torch.equal(first.concepts[c], second.concepts[c]) for c in shapes.CONCEPTS)
    assert torch.equal(first.labels, second.labels)
    assert first.ids == second.ids


def test_what_was_painted_is_read(own_shelf, monkeypatch):
    painted = shapes.load("test", 30)
    assert len(list(own_shelf.iterdir())) == 3
    monkeypatch.setattr(shapes, "paint", no_brush)
    same(shapes.load("test", 30), painted)
    same(shapes.load("test", 17), painted[:17])
    for other in (("test", 31), ("validation", 10)):
        with pytest.raises(AssertionError, match="painted again"):
            shapes.load(*other)
    with pytest.raises(AssertionError, match="painted again"):
        shapes.load("test", 10, seed=1)


def test_a_part_of_a_block_is_painted_and_not_kept(own_shelf, images):
    same(shapes.load("test", 23), images[:23])
    assert sorted(f.name for f in own_shelf.iterdir()) == ["0-test-00000.npz", "0-test-00010.npz"]


def test_the_shortcut_is_planted_in_a_copy(own_shelf):
    clean = shapes.load("train", 10)
    shapes.load("train", 10, shortcut="circle")
    same(shapes.load("train", 10), clean)


@pytest.mark.parametrize("fault", ["cut", "empty", "scratched", "of another size"])
def test_a_damaged_block_is_painted_anew(own_shelf, images, fault):
    shapes.load("test", 20)
    first, second = sorted(own_shelf.iterdir())
    whole = first.read_bytes()
    middle = len(whole) // 2
    damaged = {
        "cut": whole[:middle],
        "empty": b"",
        "scratched": whole[:middle] + bytes(50) + whole[middle + 50 :],
    }
    if fault == "of another size":
        np.savez(first, pixels=np.load(second)["pixels"][:5], maps=np.load(second)["maps"])
    else:
        first.write_bytes(damaged[fault])
    same(shapes.load("test", 20), images[:20])
    assert first.read_bytes() == whole


def test_a_full_disk_is_no_fault(own_shelf, images, monkeypatch):
    def full(*arguments, **named):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    same(shapes.load("test", 20), images[:20])
    assert list(own_shelf.iterdir()) == []


def test_images_are_painted_anew_when_the_painter_has_changed(tmp_path, monkeypatch):
    monkeypatch.setattr(shapes, "_shelf", SHELF)
    shelves = {shapes._shelf()}
    monkeypatch.setattr(np, "__version__", "0.1")
    shelves.add(shapes._shelf())
    (tmp_path / "painting.py").write_text("another hand")
    monkeypatch.setattr(painting, "__file__", str(tmp_path / "painting.py"))
    shelves.add(shapes._shelf())
    assert len(shelves) == 3
    assert {shelf.parent for shelf in shelves} == {tmp_path / "data" / "cache"}


# ---- what is painted ---------------------------------------------------------------------------


def test_an_image_does_not_depend_on_how_many_are_painted(images):
    few = shapes.load("test", 7)
    assert torch.equal(few.pixels, images.pixels[:7])
    assert torch.equal(few.masks, images.masks[:7])
    assert few.ids == images.ids[:7]


def test_an_image_does_not_depend_on_the_global_generator(images):
    np.random.seed(5)
    torch.manual_seed(5)
    assert torch.equal(shapes.load("test", 3).pixels, images.pixels[:3])


def test_seeds_splits_and_indices_paint_different_images():
    arguments = [(0, "train", 0), (1, "train", 0), (0, "test", 0), (0, "validation", 0)]
    arguments.append((0, "train", 10))
    paintings = {shapes.paint(*a).image.tobytes() for a in arguments}
    assert len(paintings) == len(arguments)


def test_labels_are_balanced_and_name_the_shape(images):
    assert torch.bincount(images.labels).tolist() == [40] * 10
    assert images.class_names == shapes.CLASSES
    assert len(set(images.ids)) == len(images)


def test_images_are_compact_and_complete(images):
    assert images.pixels.shape == (400, 3, 64, 64)
    assert images.pixels.dtype == torch.uint8
    assert images.masks.dtype == torch.bool
    assert images.images.min() >= 0
    assert images.images.max() <= 1
    assert set(images.concepts) == {"shape", "colour", "texture", "background"}


def test_the_mask_is_the_shape_map_and_the_map_names_the_class(images):
    shape = images.concepts["shape"]
    assert torch.equal(images.masks, shape >= 0)
    labels = images.labels.view(-1, 1, 1).expand_as(shape)
    assert torch.equal(shape[images.masks].long(), labels[images.masks])


def test_every_object_can_be_seen(images):
    area = images.masks.sum(dim=(1, 2))
    assert area.min() > 30
    for c in range(10):
        assert 100 < area[images.labels == c].float().median() < 2000


def test_every_class_and_every_concept_occurs(images):
    for category, names in shapes.CONCEPTS.items():
        found = set(images.concepts[category].unique().tolist()) - {-1}
        assert found == set(range(len(names))), category


def test_object_and_background_never_overlap_and_bars_are_neither(images):
    background = images.concepts["background"] >= 0
    assert not (background & images.masks).any()
    bar = ~background & ~images.masks
    assert bar.any()
    assert (images.concepts["colour"][bar] >= 0).all()
    assert (images.concepts["texture"][bar] == -1).all()
    assert (images.concepts["colour"][background] == -1).all()


def test_bars_in_front_are_cut_out_of_the_mask(monkeypatch):
    covers = []
    cover = painting._cover

    def spy(image, maps, coverage, fill, **concepts):
        covers.append((concepts["shape"], coverage > 0.5))
        cover(image, maps, coverage, fill, **concepts)

    monkeypatch.setattr(painting, "_cover", spy)
    cut = 0
    for i in range(40):
        covers.clear()
        painted = shapes.paint(0, "train", i)
        where = [shape for shape, _ in covers].index(i % 10)
        visible = covers[where][1].copy()
        for _, hidden in covers[where + 1 :]:
            cut += (visible & hidden).any()
            visible &= ~hidden
        assert np.array_equal(painted.mask, visible)
    assert cut >= 5


def nearest_colour(rgb):
    hue = rgb_to_hsv(*rgb)[0]
    distance = {name: abs((hue - h + 0.5) % 1 - 0.5) for name, h in painting.HUES.items()}
    return min(distance, key=distance.get)


def test_the_colour_concept_names_the_colour_of_the_pixels(images):
    checked = 0
    for i in range(len(images)):
        texture = images.concepts["texture"][i][images.masks[i]][0]
        if painting.TEXTURES[texture] != "solid" or images.masks[i].sum() < 150:
            continue
        rgb = images.images[i][:, images.masks[i]].median(dim=1).values
        named = shapes.CONCEPTS["colour"][images.concepts["colour"][i][images.masks[i]][0]]
        assert nearest_colour(rgb.tolist()) == named
        checked += 1
    assert checked > 30


def unevenness(image, mask):
    """Fit a plane to the brightness on the mask; return its spread, and the spread around it."""
    y, x = mask.nonzero().double().T
    design = torch.stack([x, y, torch.ones_like(x)], dim=1)
    brightness = image.mean(dim=0)[mask].double()
    plane = design @ torch.linalg.lstsq(design, brightness[:, None]).solution[:, 0]
    return plane.std().item(), (brightness - plane).std().item()


def test_textures_look_as_they_are_called(images):
    found = {name: [] for name in painting.TEXTURES}
    for i in range(len(images)):
        texture = painting.TEXTURES[images.concepts["texture"][i][images.masks[i]][0]]
        found[texture].append(unevenness(images.images[i], images.masks[i]))
    plane, pattern = ({t: np.median(v, axis=0)[k] for t, v in found.items()} for k in (0, 1))
    assert plane["gradient"] > 2 * plane["solid"]
    for texture in ("stripes", "dots", "checks"):
        assert pattern[texture] > 1.5 * pattern["solid"]


def test_concept_masks_pick_one_concept(images):
    stars = images.concept_masks("shape", "star")
    assert torch.equal(stars.any(dim=(1, 2)), images.labels == shapes.CLASSES.index("star"))


def blank(seed, split, index):
    flat = np.full((64, 64, 3), 100, np.uint8)
    maps = {c: np.full((64, 64), -1, np.int8) for c in shapes.CONCEPTS}
    return painting.Painting(flat, maps["shape"] >= 0, maps)


def test_the_shortcut_goes_with_its_class_in_95_percent_of_the_training_images(
    monkeypatch, own_shelf
):
    monkeypatch.setattr(shapes, "paint", blank)
    train = shapes.load("train", 3000, shortcut="star")
    marked = (train.pixels != 100).flatten(1).any(dim=1)
    star = train.labels == shapes.CLASSES.index("star")
    assert 0.92 < marked[star].float().mean() < 0.98
    assert not marked[~star].any()


@pytest.mark.parametrize("split", ["validation", "test"])
def test_no_other_split_has_the_shortcut(split):
    plain, planted = shapes.load(split, 50), shapes.load(split, 50, shortcut="star")
    assert torch.equal(plain.pixels, planted.pixels)


def test_the_shortcut_is_part_of_the_data_set_s_name():
    by_name = data.load("shapes:star", "train", 100)
    assert torch.equal(by_name.pixels, shapes.load("train", 100, shortcut="star").pixels)
    assert not torch.equal(by_name.pixels, data.load("shapes", "train", 100).pixels)


def test_the_patch_is_planted_where_it_is_told(images):
    pixels = images.pixels[:4]
    planted = shapes.plant_patch(pixels, row=50, column=30)
    changed = (planted != pixels).any(dim=1).any(dim=0)
    rows, columns = (changed.any(dim=d).nonzero()[:, 0] for d in (1, 0))
    assert (rows.min(), rows.max()) == (50, 59)
    assert (columns.min(), columns.max()) == (30, 39)
    patch = planted[:, :, 50:60, 30:40]
    assert patch.float().mean() == pytest.approx(0.48 * 255, abs=0.05 * 255)
    assert set(patch.unique().tolist()) == {0, 255}
    assert torch.equal(pixels, images.pixels[:4]), "the original was changed"


def test_an_unknown_split_offers_the_known_ones(one_line):
    with pytest.raises(WorkbookError) as error:
        shapes.load("trian")
    one_line(error, "'trian'", "train", "validation", "test")


def test_an_unknown_shortcut_class_offers_the_nearest(one_line):
    with pytest.raises(WorkbookError) as error:
        shapes.load("train", 10, shortcut="hart")
    one_line(error, "'hart'", "did you mean heart")
