"""The scale of a run: quick, laptop or full. Every number of a profile is in profiles.toml."""

import os
import tomllib
from pathlib import Path
from types import SimpleNamespace

import torch

from helpers.run.errors import unknown

_TOML = Path(__file__).with_name("profiles.toml")


class Profile(SimpleNamespace):
    """The settings of one scale, read as attributes: ``profile.training.epochs``.

    ``name`` is the profile's own name; all other attributes are the keys of its table in
    ``profiles.toml``, where each is explained.
    """


def names() -> list[str]:
    """Return the names of all profiles, smallest scale first."""
    return list(tomllib.loads(_TOML.read_text()))


def load(name: str = "auto", **overrides: object) -> Profile:
    """Return the profile called ``name``.

    ``"auto"`` means the environment variable ``WORKBOOK_PROFILE`` if it is set, else
    ``full`` where there is a CUDA GPU, else ``quick``.

    Args:
        name: ``"auto"``, or the name of a profile.
        overrides: top-level settings to replace, such as ``dataset="cifar100"``. A value of
            ``"auto"`` keeps the profile's own.

    Raises:
        WorkbookError: no profile, or no setting, has that name.
    """
    if name == "auto":
        name = os.environ.get("WORKBOOK_PROFILE") or (
            "full" if torch.cuda.is_available() else "quick"
        )
    tables = tomllib.loads(_TOML.read_text())
    if name not in tables:
        raise unknown("profile", name, ["auto", *tables])
    settings = tables[name]
    for key, value in overrides.items():
        if key not in settings:
            raise unknown("setting of a profile", key, settings)
        if value != "auto":
            settings[key] = value
    return Profile(
        name=name,
        **{k: SimpleNamespace(**v) if isinstance(v, dict) else v for k, v in settings.items()},
    )
