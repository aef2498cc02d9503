"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009), from the official archive or from class folders."""

import pickle
import tarfile
from io import BytesIO

import numpy as np
import torch

from helpers.data import assets, folders
from helpers.data.images import ImageSet
from helpers.run.errors import WorkbookError

CLASSES = (  # of CIFAR-10
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip

# Per variant: folder in the archive, training files, test file, keys of labels and of names.
_ARCHIVES = {
    "cifar10": (
        "cifar-10-batches-py",
        [f"data_batch_{i}" for i in range(1, 6)], "test_batch",
        "batches.meta", b"labels", b"label_names",
    ),
    "cifar100": (
        "cifar-100-python", ["train"], "test", "meta", b"fine_labels", b"fine_label_names",
    ),
}  # fmt: skip


def load(name: str = "cifar10", split: str = "test", n: int | None = None) -> ImageSet:
    """Load one split of CIFAR-10 or CIFAR-100 as 32 x 32 images.

    ``validation`` is every 20th training image, and ``train`` is the rest.

    Args:
        name: ``"cifar10"`` or ``"cifar100"``.
        split: ``"train"``, ``"validation"`` or ``"test"``.
        n: only the first ``n`` images; all if None.

    Raises:
        WorkbookError: the asset cannot be had, or the archive is damaged.
    """
    asset = assets.fetch(name)
    if asset.format == "class-folders":
        return folders.load(asset.path, split, n, size=32, name=name, note=asset.note)
    folder, train_files, test_file, meta_file, label_key, names_key = _ARCHIVES[name]
    wanted = [test_file] if split == "test" else train_files
    with folders.official(asset.path, f"the official {name} archive, or damaged"):
        with tarfile.open(asset.path) as archive:
            batches = [_unpickle(archive, f"{folder}/{file}") for file in wanted]
            names = _unpickle(archive, f"{folder}/{meta_file}")[names_key]
        pixels = np.concatenate([batch[b"data"] for batch in batches]).reshape(-1, 3, 32, 32)
        labels = np.concatenate([batch[label_key] for batch in batches])
    rows = folders.part(list(range(len(labels))), split)[:n]
    return ImageSet(
        name=name,
        split=split,
        pixels=torch.from_numpy(pixels[rows]),
        labels=torch.from_numpy(labels[rows]).long(),
        class_names=tuple(label.decode() for label in names),
        ids=tuple(f"{'test' if split == 'test' else 'train'}/{row:05d}" for row in rows),
        note=asset.note,
    )


class _ArrayUnpickler(pickle.Unpickler):
    """Opens a pickle of dictionaries, strings and arrays, and nothing that could run code."""

    _ADMITTED = {  # noqa: RUF012
        # NumPy has moved this function; an array's own recipe always knows where it is.
        ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
    }

    def find_class(self, module: str, name: str) -> object:
        try:
            return self._ADMITTED[module, name]
        except KeyError:
            raise WorkbookError(
                f"the archive asks for {module}.{name}, which no data set needs: "
                "it is not the official one; delete it and download it again"
            ) from None


def _unpickle(archive: tarfile.TarFile, member: str) -> dict:
    return _ArrayUnpickler(BytesIO(archive.extractfile(member).read()), encoding="bytes").load()
