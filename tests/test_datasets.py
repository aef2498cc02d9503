"""Data sets: one type for all, good images read rightly, bad ones named in one line."""

import io
import os
import pathlib
import pickle
import shutil
import tarfile
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from helpers import data
from helpers.data import assets, cifar, folders, imagenet
from helpers.data.images import ImageSet
from helpers.run.errors import WorkbookError

# ---- the one type ------------------------------------------------------------------------------


def image_set(n=6, **changes):
    settings = {
        "name": "own",
        "split": "test",
        "pixels": torch.arange(n, dtype=torch.uint8).view(n, 1, 1, 1).expand(n, 3, 8, 8).clone(),
        "labels": torch.arange(n) % 3,
        "class_names": ("a", "b", "c"),
        "ids": tuple(f"image{i}" for i in range(n)),
        "masks": torch.arange(n).view(n, 1, 1).expand(n, 8, 8) % 2 == 0,
        "concepts": {"colour": torch.full((n, 8, 8), 1, dtype=torch.int8)},
        "concept_names": {"colour": ("red", "blue")},
    }
    return ImageSet(**settings | changes)


@pytest.mark.parametrize(
    ("index", "rows"),
    [
        (2, [2]),
        (-1, [5]),
        (slice(1, 4), [1, 2, 3]),
        ([4, 0], [4, 0]),
        (np.array([3, 3]), [3, 3]),
        (torch.tensor([5, 1]), [5, 1]),
        (torch.arange(6) % 3 == 0, [0, 3]),
    ],
)
def test_any_index_picks_images_with_all_that_belongs_to_them(index, rows):
    part = image_set()[index]
    assert part.pixels[:, 0, 0, 0].tolist() == rows
    assert part.labels.tolist() == [row % 3 for row in rows]
    assert part.ids == tuple(f"image{row}" for row in rows)
    assert part.masks[:, 0, 0].tolist() == [row % 2 == 0 for row in rows]
    assert len(part) == len(part.concepts["colour"]) == len(rows)


def test_images_are_floats_in_zero_to_one():
    images = image_set(pixels=torch.full((6, 3, 8, 8), 255, dtype=torch.uint8)).images
    assert images.dtype == torch.float32
    assert images.max() == 1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"pixels": torch.zeros(6, 3, 8, 8)}, ["own", "uint8"]),
        ({"pixels": torch.zeros(6, 8, 8, dtype=torch.uint8)}, ["own", "[N, 3, H, W]"]),
        ({"pixels": torch.zeros(6, 1, 8, 8, dtype=torch.uint8)}, ["own", "[N, 3, H, W]"]),
        ({"labels": torch.zeros(5)}, ["own", "labels"]),
        ({"ids": ("one",)}, ["own", "ids"]),
        ({"pixels": torch.zeros(0, 3, 8, 8, dtype=torch.uint8)}, ["own", "no images"]),
    ],
)
def test_a_set_that_does_not_fit_together_is_refused(changes, words, one_line):
    with pytest.raises(WorkbookError) as error:
        image_set(**changes)
    one_line(error, *words)


def test_an_unknown_concept_is_named(one_line):
    with pytest.raises(WorkbookError) as error:
        image_set().concept_masks("color", "red")
    one_line(error, "'color'", "colour")
    with pytest.raises(WorkbookError) as error:
        image_set().concept_masks("colour", "bleu")
    one_line(error, "'bleu'", "blue")


# ---- class folders -----------------------------------------------------------------------------


def save(path, colour=(200, 30, 30), size=(12, 10)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)


@pytest.fixture
def own(tmp_path):
    """Class folders of 20 training and 3 test images in each of two classes."""
    root = tmp_path / "my_images"
    for c, name in enumerate(("cat", "dog")):
        for split, n in (("train", 20), ("test", 3)):
            for i in range(n):
                save(root / split / name / f"{i:02d}.png", (100 * c, 5 * i, 40))
    return root


def archived(root, kind):
    if kind == "folder":
        return root
    path = root.with_suffix(f".{kind}")
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            for file in sorted(root.rglob("*")):
                archive.write(file, file.relative_to(root))
    else:
        with tarfile.open(path, f"w:{kind.removeprefix('tar').removeprefix('.')}") as archive:
            for child in sorted(root.iterdir()):
                archive.add(child, child.name)
    return path


@pytest.mark.parametrize("kind", ["folder", "zip", "tar", "tar.gz", "tar.xz"])
@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_folders_and_archives_give_the_same_set(own, kind, split):
    expected = folders.load(own, split, size=16)
    found = data.load(f"folder:{archived(own, kind)}", split, size=16)
    assert torch.equal(found.pixels, expected.pixels)
    assert torch.equal(found.labels, expected.labels)
    assert found.ids == expected.ids
    assert found.class_names == ("cat", "dog")


def test_validation_images_are_held_out_of_training(own):
    train, validation = (folders.load(own, split) for split in ("train", "validation"))
    assert set(train.ids).isdisjoint(validation.ids)
    assert (len(train), len(validation)) == (38, 2)
    assert validation.ids == ("cat/19.png", "dog/19.png")


@pytest.mark.parametrize("n", [1, 2, 4, 19])
def test_a_class_of_few_images_keeps_one_for_validation(tmp_path, n):
    for name, count in (("cat", n), ("dog", 25)):
        for i in range(count):
            save(tmp_path / "train" / name / f"{i:02d}.png")
    train, validation = (folders.load(tmp_path, split) for split in ("train", "validation"))
    assert torch.bincount(train.labels).tolist() == [max(1, n - 1), 24]
    assert torch.bincount(validation.labels).tolist() == [1, 1]
    if n > 1:
        assert set(train.ids).isdisjoint(validation.ids)


def test_few_images_are_spread_over_the_classes(own):
    few = folders.load(own, "train", 6)
    assert torch.bincount(few.labels).tolist() == [3, 3]


def test_labels_are_the_sorted_folder_names(own):
    test = folders.load(own, "test")
    assert test.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert test.ids[3] == "dog/00.png"
    assert test.pixels[3, 0].float().mean() == pytest.approx(100, abs=1)


def test_other_files_beside_the_images_are_ignored(own):
    expected = folders.load(own, "test")
    (own / "test" / "cat" / "Thumbs.db").write_text("no image")
    (own / "readme.txt").write_text("no image")
    assert folders.load(own, "test").ids == expected.ids


@pytest.mark.parametrize("kind", ["folder", "zip", "tar"])
def test_names_that_begin_with_a_dot_and_files_beside_the_classes_are_ignored(own, kind):
    expected = folders.load(own, "test")
    (own / "test" / ".checkpoints").mkdir()
    (own / "test" / "cat" / "._00.png").write_text("no image")
    (own / "test" / "readme.txt").write_text("no class")
    found = folders.load(archived(own, kind), "test")
    assert (found.ids, found.class_names) == (expected.ids, expected.class_names)


def test_only_the_images_that_are_asked_for_are_read_and_each_once(own, monkeypatch):
    read, reader = [], pathlib.Path.read_bytes
    (own / "test" / "cat" / "notes.txt").write_text("no image")
    spy = lambda path: read.append(path.relative_to(own).as_posix()) or reader(path)  # noqa: E731
    monkeypatch.setattr(pathlib.Path, "read_bytes", spy)
    assert data.class_names(f"folder:{own}") == ("cat", "dog")
    data.identity(f"folder:{own}")
    assert read == []
    folders.load(own, "test", 4)
    assert read == ["test/cat/00.png", "test/cat/01.png", "test/dog/00.png", "test/dog/01.png"]


@pytest.mark.parametrize(
    ("kind", "reader"),
    [("zip", (zipfile.ZipFile, "read")), ("tar", (tarfile.TarFile, "extractfile"))],
)
def test_of_an_archive_no_more_than_the_images_of_the_split_is_read(own, kind, reader, monkeypatch):
    (own / "test" / "cat" / "notes.txt").write_text("no image")
    path, read, original = archived(own, kind), [], getattr(*reader)

    def spy(archive, member):
        read.append(getattr(member, "filename", None) or member.name)
        return original(archive, member)

    monkeypatch.setattr(*reader, spy)
    data.class_names(f"folder:{path}")
    assert read == []
    folders.load(path, "test")
    assert read == [f"test/{name}/{i:02d}.png" for name in ("cat", "dog") for i in range(3)]


@pytest.mark.parametrize("split", ["train", "validation", "test"])
@pytest.mark.parametrize("kind", ["folder", "zip", "tar"])
def test_splits_with_different_classes_are_refused(own, kind, split, one_line):
    (own / "test" / "cat").rename(own / "test" / "fox")
    path = archived(own, kind)
    words = ["train/ and test/", path.name, "train/cat/, test/fox/", "the same class folders"]
    with pytest.raises(WorkbookError) as error:
        data.load(f"folder:{path}", split)
    one_line(error, *words)
    with pytest.raises(WorkbookError) as error:
        data.class_names(f"folder:{path}")
    one_line(error, *words)


def test_a_class_that_only_one_split_has_is_named(own, one_line):
    save(own / "train" / "cow" / "00.png")
    for split in ("train", "validation", "test"):
        with pytest.raises(WorkbookError) as error:
            folders.load(own, split)
        one_line(error, "train/cow/", "the same class folders")
        assert "cat" not in str(error.value)
        assert "dog" not in str(error.value)


def test_a_single_class_is_refused(own, one_line):
    for split in ("train", "test"):
        shutil.rmtree(own / split / "cat")
    with pytest.raises(WorkbookError) as error:
        data.class_names(f"folder:{own}")
    one_line(error, "my_images has only one class, test/dog/", "needs two")


def test_a_relative_path_starts_here_or_at_the_workbook(own, monkeypatch):
    expected = folders.load(own, "test")
    monkeypatch.setattr(folders, "ROOT", own.parent)
    for here in (own.parent, own):  # as `make run`, whose notebooks have a folder of their own
        monkeypatch.chdir(here)
        assert torch.equal(data.load("folder:my_images", "test").pixels, expected.pixels)
        assert data.class_names("folder:my_images") == ("cat", "dog")
        assert data.identity("folder:my_images") == data.identity("folder:my_images")


def test_a_path_may_begin_at_home(own, monkeypatch):
    monkeypatch.setenv("HOME", str(own.parent))
    assert data.class_names("folder:~/my_images") == ("cat", "dog")


def test_a_note_goes_with_the_images(own):
    assert folders.load(own, "test", note="copies").note == "copies"


def test_the_identity_changes_when_an_image_changes(own):
    name = f"folder:{own}"
    before = data.identity(name)
    assert data.identity(name) == before
    save(own / "train" / "cat" / "new.png")
    after = data.identity(name)
    assert after != before
    save(own / "train" / "cat" / "new.png", (1, 2, 3), (40, 40))
    assert data.identity(name) != after


def test_the_identity_changes_when_an_image_moves_to_another_class(own):
    for i in range(20):  # so that the moved one stays between the same two
        (own / "train" / "dog" / f"{i:02d}.png").rename(own / "train" / "dog" / f"{50 + i}.png")
    before = data.identity(f"folder:{own}")
    (own / "train" / "cat" / "19.png").rename(own / "train" / "dog" / "19.png")
    assert data.identity(f"folder:{own}") != before


def test_the_same_folder_name_in_another_class_changes_the_identity(own):
    """Renaming a class changes the labels, so it must not look like the same data."""
    before = data.identity(f"folder:{own}")
    shutil.move(own / "train" / "cat", own / "train" / "fox")
    shutil.move(own / "test" / "cat", own / "test" / "fox")
    assert data.identity(f"folder:{own}") != before


def test_the_identity_of_shapes_knows_the_shortcut():
    assert data.identity("shapes") != data.identity("shapes:star")


# ---- images of all kinds -----------------------------------------------------------------------


def encoded(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def middle(data, size=16):
    pixels = folders.decode(data, "image", size)
    assert pixels.shape == (3, size, size)
    assert pixels.dtype == np.uint8
    return pixels[:, size // 2, size // 2].tolist()


def test_greyscale_images_become_grey_rgb():
    assert middle(encoded(Image.new("L", (20, 20), 77))) == [77, 77, 77]


def test_transparent_images_are_laid_on_white():
    assert middle(encoded(Image.new("RGBA", (20, 20), (0, 0, 0, 0)))) == [255, 255, 255]
    half = middle(encoded(Image.new("RGBA", (20, 20), (0, 0, 255, 128))))
    assert half == pytest.approx([127, 127, 255], abs=2)


def test_palette_images_keep_their_colours():
    image = Image.new("RGB", (20, 20), (10, 200, 30)).convert("P", palette=Image.Palette.ADAPTIVE)
    assert middle(encoded(image)) == pytest.approx([10, 200, 30], abs=3)


def test_transparent_palette_images_are_laid_on_white():
    image = Image.new("P", (20, 20), 0)
    image.putpalette([9, 9, 9] * 256)
    assert middle(encoded(image, transparency=0)) == [255, 255, 255]


def test_cmyk_images_become_rgb():
    data = encoded(Image.new("RGB", (20, 20), (250, 20, 20)).convert("CMYK"), "JPEG", quality=95)
    assert middle(data) == pytest.approx([250, 20, 20], abs=12)


@pytest.mark.parametrize(("value", "expected"), [(65535, 255), (32768, 127), (2570, 10), (0, 0)])
def test_16_bit_images_are_scaled_not_clipped(value, expected):
    image = Image.fromarray(np.full((20, 20), value, np.uint16))
    assert middle(encoded(image)) == [expected] * 3


def test_black_and_white_images_become_rgb():
    assert middle(encoded(Image.new("1", (20, 20), 1))) == [255, 255, 255]


def test_photographs_are_turned_upright():
    image = Image.new("RGB", (40, 40), "black")
    image.paste("white", (0, 0, 40, 20))  # light above, as stored
    exif = Image.Exif()
    exif[0x0112] = 3  # the camera was upside down
    pixels = folders.decode(encoded(image, "JPEG", exif=exif), "image", 40)
    assert pixels[:, 5].mean() < 20
    assert pixels[:, 35].mean() > 235


def test_long_images_are_cropped_at_the_centre():
    image = Image.new("RGB", (60, 20), "red")
    image.paste("blue", (20, 0, 40, 20))
    pixels = folders.decode(encoded(image), "image", 20)
    assert (pixels == np.array([0, 0, 255]).reshape(3, 1, 1)).all()


def test_an_image_of_the_right_size_is_not_touched():
    values = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    pixels = folders.decode(encoded(Image.fromarray(values)), "image", 32)
    assert np.array_equal(pixels, values.transpose(2, 0, 1))


# ---- bad input: one line that names the thing --------------------------------------------------


NOISE = np.random.default_rng(0)


def noise_jpeg():
    """Return a JPEG that no archive can compress; another one at each call."""
    values = NOISE.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    return encoded(Image.fromarray(values), "JPEG")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"this is no image at all", ["not a readable image"]),
        (b"", ["not a readable image"]),
        (noise_jpeg()[:900], ["not a readable image", "cut short"]),
        (encoded(Image.new("RGB", (1, 1))), ["1x1", "8x8"]),
    ],
    ids=["text", "empty", "truncated", "1x1"],
)
def test_a_bad_image_is_named_with_its_class(own, content, words, one_line):
    (own / "test" / "dog" / "bad.jpg").write_bytes(content)
    with pytest.raises(WorkbookError) as error:
        data.load(f"folder:{own}", "test")
    one_line(error, "dog/bad.jpg", "replace it or remove it", *words)


@pytest.mark.parametrize("cut", [10, 60])
def test_a_png_that_is_cut_short_is_named(cut, one_line):
    data = encoded(Image.fromarray(np.random.default_rng(0).integers(0, 255, (9, 9), np.uint8)))
    with pytest.raises(WorkbookError) as error:
        folders.decode(data[:cut], "cut.png", 16)
    one_line(error, "cut.png", "cut short")


@pytest.mark.parametrize("kind", ["folder", "zip", "tar"])
def test_an_empty_class_folder_is_named(own, kind, one_line):
    (own / "train" / "emu").mkdir()
    with pytest.raises(WorkbookError) as error:
        folders.load(archived(own, kind), "train")
    one_line(error, "train/emu/", "no images")


def test_a_missing_split_folder_is_named(own, one_line):
    shutil.rmtree(own / "test")
    with pytest.raises(WorkbookError) as error:
        folders.load(own, "test")
    one_line(error, "no test/<class>/ folders", "my_images")


def test_a_missing_path_is_named(tmp_path, one_line):
    with pytest.raises(WorkbookError) as error:
        data.load(f"folder:{tmp_path}/nowhere")
    one_line(error, "nowhere")


def scratched(data):
    return data[: len(data) // 2] + b"?" * 99 + data[len(data) // 2 + 99 :]


@pytest.mark.parametrize(
    ("kind", "spoil"),
    [
        ("zip", lambda data: b"not an archive"),
        ("tar", lambda data: b"not an archive"),
        ("zip", lambda data: data[: len(data) // 2]),
        ("tar.gz", lambda data: data[: len(data) // 2]),
        ("tar.xz", lambda data: data[: len(data) // 2]),
        ("zip", scratched),
        ("tar.xz", scratched),
    ],
    ids=["no zip", "no tar", "cut zip", "cut gz", "cut xz", "scratched zip", "scratched xz"],
)
def test_a_corrupt_archive_is_named(own, kind, spoil, one_line):
    shutil.rmtree(own / "train" / "cat")
    (own / "train" / "cat").mkdir()
    for i in range(20):
        (own / "train" / "cat" / f"noise{i}.jpg").write_bytes(noise_jpeg())
    path = archived(own, kind)
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(WorkbookError) as error:
        folders.load(path, "train")
    one_line(error, path.name)


def test_an_unknown_data_set_offers_the_known_ones(one_line):
    with pytest.raises(WorkbookError) as error:
        data.load("cifar11")
    one_line(error, "'cifar11'", "did you mean cifar10", "folder:PATH")
    with pytest.raises(WorkbookError) as error:
        data.load("folder:")
    one_line(error, "folder:PATH")


def test_an_unknown_split_offers_the_known_ones(one_line):
    with pytest.raises(WorkbookError) as error:
        data.load("cifar10", "val")
    one_line(error, "'val'", "validation")


@pytest.mark.parametrize("name", ["imagenet_ten", "imagenet_samples"])
@pytest.mark.parametrize("split", ["train", "validation"])
def test_sets_without_training_images_hand_out_none(name, split, one_line):
    with pytest.raises(WorkbookError) as error:
        data.load(name, split)
    one_line(error, name, "only a test split", f'"{split}"')


# ---- CIFAR -------------------------------------------------------------------------------------


class Python2Pickler(pickle._Pickler):
    """Writes text and bytes as the str of Python 2, in which the official files were made."""

    def save_str(self, value):
        data = value if isinstance(value, bytes) else value.encode("latin1")
        self.write(pickle.BINSTRING + len(data).to_bytes(4, "little") + data)
        self.memoize(value)

    dispatch = pickle._Pickler.dispatch | {bytes: save_str, str: save_str}


def pickled(value):
    buffer = io.BytesIO()
    Python2Pickler(buffer, protocol=2).dump(value)
    return buffer.getvalue().replace(b"numpy._core.multiarray", b"numpy.core.multiarray")


def add(archive, name, data):
    info = tarfile.TarInfo(name)
    info.size = len(data)
    archive.addfile(info, io.BytesIO(data))


def batch(n, keys, first):
    data = (np.arange(n * 3072).reshape(n, 3072) % 251).astype(np.uint8)
    data[:, 0] = np.arange(first, first + n) % 256
    return {b"data": data, **{key: [i % 10 for i in range(n)] for key in keys}}


@pytest.fixture
def official(tmp_path, monkeypatch):
    """Return a function that makes assets.fetch answer with a small official archive."""

    def make(name, replaced=None):
        path = tmp_path / f"{name}.tar.gz"
        labels = [f"class{i}".encode() for i in range(10)]
        if name == "cifar10":
            folder, meta = "cifar-10-batches-py", ("batches.meta", {b"label_names": labels})
            parts = {f"data_batch_{k + 1}": batch(20, [b"labels"], 20 * k) for k in range(5)}
            parts["test_batch"] = batch(30, [b"labels"], 0)
        else:
            folder, meta = "cifar-100-python", ("meta", {b"fine_label_names": labels})
            keys = [b"coarse_labels", b"fine_labels"]
            parts = {"train": batch(100, keys, 0), "test": batch(30, keys, 0)}
            parts["test"][b"coarse_labels"] = [9] * 30
        with tarfile.open(path, "w:gz") as archive:
            for file, value in [meta, *parts.items()]:
                data = (replaced or {}).get(file)
                add(archive, f"{folder}/{file}", pickled(value) if data is None else data)
        monkeypatch.setattr(assets, "fetch", lambda name: assets.Asset(name, path))
        return path

    return make


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_the_official_archive_is_read(official, name):
    official(name)
    test = data.load(name, "test")
    assert test.pixels.shape == (30, 3, 32, 32)
    assert test.labels.tolist() == [i % 10 for i in range(30)]
    assert test.class_names[3] == "class3"
    assert test.pixels[7, :, 0, :3].tolist() == [
        [7, (7 * 3072 + 1) % 251, (7 * 3072 + 2) % 251],
        [(7 * 3072 + 1024 + k) % 251 for k in range(3)],
        [(7 * 3072 + 2048 + k) % 251 for k in range(3)],
    ]
    train, validation = (data.load(name, split) for split in ("train", "validation"))
    assert (len(train), len(validation)) == (95, 5)
    assert validation.pixels[:, 0, 0, 0].tolist() == [19, 39, 59, 79, 99]
    assert set(train.ids).isdisjoint(validation.ids)
    assert len(data.load(name, "train", 12)) == 12


def test_the_classes_of_cifar10_are_known_without_its_archive(monkeypatch):
    monkeypatch.delattr(assets, "fetch")
    assert data.class_names("cifar10")[-1] == "truck"


class Malicious:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_an_archive_with_code_is_refused_and_the_code_does_not_run(official, tmp_path, one_line):
    evil = tmp_path / "evil"
    official("cifar10", {"test_batch": pickle.dumps({"data": Malicious(evil)}, protocol=2)})
    with pytest.raises(WorkbookError) as error:
        cifar.load("cifar10", "test")
    one_line(error, f"{os.mkdir.__module__}.mkdir", "not the official one")
    assert not evil.exists()


@pytest.mark.parametrize("data", [b"", b"not a pickle", b"\x80\x02}q\x00."])
def test_a_damaged_member_of_the_archive_is_a_clear_error(official, data, one_line):
    official("cifar10", {"test_batch": data})
    with pytest.raises(WorkbookError) as error:
        cifar.load("cifar10", "test")
    one_line(error, "cifar10")


def test_another_archive_is_not_taken_for_the_official_one(official, one_line):
    path = official("cifar10")
    with tarfile.open(path, "w:gz") as archive:
        add(archive, "readme.txt", b"nothing here")
    with pytest.raises(WorkbookError) as error:
        cifar.load("cifar10", "test")
    one_line(error, "not the official cifar10 archive")


@pytest.mark.parametrize("keep", [0, 40, 2000])
def test_a_cut_official_archive_is_a_clear_error(official, keep, one_line):
    path = official("cifar10")
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(WorkbookError) as error:
        cifar.load("cifar10", "test")
    one_line(error, path.name)


def test_class_folders_from_a_mirror_become_cifar(own, monkeypatch):
    asset = assets.Asset("cifar10", own, format="class-folders", note="lossy")
    monkeypatch.setattr(assets, "fetch", lambda name: asset)
    test = data.load("cifar10", "test")
    assert (test.name, test.note, test.size) == ("cifar10", "lossy", (32, 32))


# ---- ImageNet ----------------------------------------------------------------------------------


def test_a_samples_archive_with_too_few_classes_is_named(tmp_path, monkeypatch, one_line):
    path = tmp_path / "samples.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("master/n01440764_tench.JPEG", noise_jpeg())
        archive.writestr("master/n01443537_goldfish.JPEG", noise_jpeg())
    monkeypatch.setattr(assets, "fetch", lambda name: assets.Asset(name, path))
    with pytest.raises(WorkbookError) as error:
        data.load("imagenet_samples")
    one_line(error, "samples.zip", "2 classes instead of 1,000")


def test_a_corrupt_samples_archive_is_a_clear_error(tmp_path, monkeypatch, one_line):
    path = tmp_path / "samples.zip"
    path.write_bytes(b"PK nothing")
    monkeypatch.setattr(assets, "fetch", lambda name: assets.Asset(name, path))
    with pytest.raises(WorkbookError) as error:
        data.load("imagenet_samples")
    one_line(error, "samples.zip")


def test_the_ten_images_have_the_classes_of_their_names():
    assert len(imagenet.TEN) == 10
    for name, index in imagenet.TEN.items():
        found = imagenet.CLASSES[index].lower().replace(" ", "_")
        assert name.split("_", 2)[2].lower().split("_")[-1] in found


# ---- the real thing ----------------------------------------------------------------------------


@pytest.mark.mirror
def test_the_mirror_s_cifar10_is_complete_and_shows_its_note():
    test = data.load("cifar10", "test")
    assert torch.bincount(test.labels).tolist() == [1000] * 10
    assert test.class_names[0] == "airplane"
    assert test.class_names[9] == "truck"
    assert data.class_names("cifar10") == test.class_names
    assert "lossily compressed" in test.note
    assert len(data.load("cifar10", "validation", 100)) == 100


@pytest.mark.mirror
def test_the_ten_imagenet_images_load():
    ten = data.load("imagenet_ten")
    assert ten.pixels.shape == (10, 3, 224, 224)
    assert [ten.class_names[c] for c in ten.labels[:2]] == ["goldfish", "tiger shark"]


@pytest.mark.mirror
def test_samples_are_spread_over_the_classes():
    samples = data.load("imagenet_samples", n=5)
    assert samples.labels.tolist() == [0, 250, 500, 749, 999]
    assert samples.ids[0].startswith("n01440764")
    assert "256" in samples.note
