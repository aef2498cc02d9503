"""The one exception of the workbook: what went wrong and what to do, in a single line."""

import os
import traceback
from collections.abc import Iterable
from difflib import get_close_matches


class WorkbookError(Exception):
    """A fault that the reader can mend.

    The message names the thing and the remedy. Notebooks show it as one line: there is
    nothing to learn from a traceback through our own code, unless one mends it (``message``).
    """

    def _render_traceback_(self) -> list[str]:
        """Tell IPython what to print instead of a traceback."""
        return [message(self, f"{type(self).__name__}: {self}")]


def message(error: Exception, line: str = "") -> str:
    """Return what to print: the one line, or with ``WORKBOOK_DEBUG=1`` the whole traceback."""
    if os.environ.get("WORKBOOK_DEBUG", "0") != "0":
        return "".join(traceback.format_exception(error)).rstrip()
    return line or str(error)


def unknown(kind: str, name: object, known: Iterable[str]) -> WorkbookError:
    """Return the error for a name that is not one of ``known``, nearest names first."""
    known = list(known)
    near = get_close_matches(str(name), known, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    some = known if len(known) <= 20 else [*known[:5], "…", *known[-5:]]  # layers are hundreds
    return WorkbookError(f"unknown {kind} {name!r}: {hint}choose one of {', '.join(some)}")
