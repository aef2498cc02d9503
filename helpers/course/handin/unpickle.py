"""Read a hand-in that somebody else pickled, without trusting it.

What it may hold is in :mod:`.admitted`; nothing else of it is run. But a pickle can also be made
to go on for ever, or to fill the memory, without calling anything. So a process of its own reads
it, which has limits, and hands back plain values that are neither long nor deep.
"""

import multiprocessing
import os
import signal
import warnings
from contextlib import suppress
from pathlib import Path

from pebble import ProcessExpired, concurrent

from helpers.course.handin import admitted
from helpers.run.errors import WorkbookError

_LARGEST = 5_000_000  # bytes; ten dictionaries of parameters need a few thousand
_SECONDS = 10  # to read them; it takes milliseconds
_MEMORY = 2**29  # bytes
# A forked process is there at once and needs nothing of the script that runs; Windows has none.
_CONTEXT = multiprocessing.get_context(
    "fork" if "fork" in multiprocessing.get_all_start_methods() else "spawn"
)


def load_params(path: str | Path) -> dict:
    """Read LIME parameters from a pickle file, whoever made it.

    Only what a hand-in needs is admitted: plain values, NumPy numbers and arrays of numbers,
    superpixels of the lime library or of scikit-image, regressors of scikit-learn with weights,
    which are returned unfitted, and distances of SciPy. What the parameters say is not judged
    here; see :func:`helpers.course.handin.validate`.

    Raises:
        WorkbookError: there is no such file, it is no pickle, it is too large, reading it takes
            too much time or memory, or it holds anything else; in that case nothing of it has
            been run.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        data = path.read_bytes() if size <= _LARGEST else b""
    except OSError as error:
        raise WorkbookError(f"cannot read {path.name}: {error.strerror}") from error
    if size > _LARGEST:
        raise WorkbookError(
            f"{path.name} has {size / 1e6:.1f} MB, far more than parameters need: hand in the "
            "dictionary alone"
        )
    try:
        return _read(data).result()
    except (TimeoutError, MemoryError, ProcessExpired):
        raise WorkbookError(
            f"{path.name} is refused: reading it takes more than {_SECONDS} s, or far more memory "
            "than parameters need"
        ) from None
    except WorkbookError as error:
        raise WorkbookError(f"{path.name} is {error}") from None


@concurrent.process(timeout=_SECONDS, mp_context=_CONTEXT)
def _read(data: bytes) -> object:
    """Read a pickle in a process of its own; an error says what the file is."""
    set_limits(_MEMORY)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a regressor fitted by another scikit-learn
            return admitted.load(data)
    except WorkbookError as error:
        raise WorkbookError(f"refused: {error}") from None
    except MemoryError:
        raise
    except Exception as error:  # a broken pickle can fail in any way
        reason = " ".join(str(error).split())[:100] or type(error).__name__
        raise WorkbookError(
            f"not a pickle of parameters ({reason}): write it with pickle.dump(params, file)"
        ) from None


def set_limits(memory: int) -> None:
    """Let this process take so many bytes more than it has, and end at once when it is told to."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # Python's own would wait for compiled code
    with suppress(ImportError, OSError, ValueError):  # not every system counts its memory so
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # if it crashes, no picture of it on disk
        with open("/proc/self/statm") as counts:
            used = int(counts.read().split()[5]) * os.sysconf("SC_PAGE_SIZE")
        # Not the address space, of which the driver of a GPU reserves far more than there is.
        resource.setrlimit(resource.RLIMIT_DATA, (used + memory, used + memory))
