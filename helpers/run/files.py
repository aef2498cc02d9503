"""Where the workbook keeps its files, and how it writes one without ever leaving half of it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from helpers.run.errors import WorkbookError

ROOT = Path(__file__).resolve().parents[2]


def data_folder() -> Path:
    """Return the folder of downloads and checkpoints: ``$WORKBOOK_DATA``, or ``data/``."""
    return Path(os.environ.get("WORKBOOK_DATA", ROOT / "data"))


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a temporary path that becomes ``path`` only if the block ends well.

    An earlier file at ``path`` stays untouched until then. A full disk, or any other
    fault, removes the temporary file and leaves the earlier one as it was.

    Raises:
        WorkbookError: the file system refused (no space, no permission).
    """
    partial = path.with_name(f".{path.stem}-{os.getpid()}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        os.replace(partial, path)
    except (OSError, RuntimeError) as error:
        # torch.save reports a full disk as a RuntimeError of its zip writer.
        if isinstance(error, RuntimeError) and "PytorchStreamWriter" not in str(error):
            raise
        reason = getattr(error, "strerror", None) or "the disk is full or not writable"
        raise WorkbookError(
            f"cannot write {path.name} ({reason}): free some space in {path.parent.name}/ "
            "or point WORKBOOK_DATA to another disk; nothing was changed"
        ) from error
    finally:
        partial.unlink(missing_ok=True)
