"""The scale of a run: quick, laptop or full. Every number of a profile is in profiles.toml."""

import hashlib
import os
import re
import tomllib
from pathlib import Path
from types import SimpleNamespace

from helpers.run.errors import unknown

_TOML = Path(__file__).with_name("profiles.toml")
_NOT_A_SCALE = ("base", "shapes_lab")


class Profile(SimpleNamespace):
    """The settings of one scale, read as attributes: ``profile.training.epochs``.

    ``name`` is the profile's own name, ``run`` that of the run (see :func:`run_name`); all other
    attributes are the settings of ``profiles.toml``, where each is explained.
    """


def names() -> list[str]:
    """Return the names of all profiles that are offered, smallest scale first."""
    tables = _tables()
    return [name for name in tables if name not in _NOT_A_SCALE and "like" not in tables[name]]


def load(name: str = "auto", **overrides: object) -> Profile:
    """Return a profile.

    Args:
        name: ``"auto"`` means the environment variable ``WORKBOOK_PROFILE`` if it is set, else
            ``full`` where there is a CUDA GPU, else ``quick``.
        overrides: top-level settings to replace, such as ``dataset="cifar100"``. A value of
            ``"auto"`` keeps the profile's own.

    Raises:
        WorkbookError: no profile, or no setting, has that name.
    """
    if name == "auto" and not (name := os.environ.get("WORKBOOK_PROFILE")):
        import torch  # slow to import, and the runner never asks

        name = "full" if torch.cuda.is_available() else "quick"
    tables = _tables()
    changes = tables.get(name, {})
    if name not in names() and "like" not in changes:
        raise unknown("profile", name, ["auto", *names()])
    settings = _merged(tables["base"], tables.get(changes.pop("like", ""), {}))
    return _profile(name, _merged(settings, changes), overrides)


def shapes_lab(**overrides: object) -> Profile:
    """Return the small laboratory that every scale has beside its own classifier.

    It is a profile with ``dataset``, ``model``, ``start``, ``size``, ``images`` and ``training``,
    and with ``segmentations``, the arguments of lime's superpixels. ``overrides`` replace
    settings, such as ``dataset="shapes:heart"``.

    Raises:
        WorkbookError: no setting has that name.
    """
    return _profile("shapes_lab", _tables()["shapes_lab"], overrides)


def run_name(profile: str, parameters: dict[str, object]) -> str:
    """Return the name of a run, and of its folders: the profile's, and what was changed in it.

    ``run_name("quick", {"MODEL": "resnet20"})`` is ``"quick-model-resnet20"``. Where a value
    is long or has other characters than letters and digits, a checksum keeps runs apart.
    """
    parts = [profile]
    for name, value in sorted(parameters.items()):
        text = words = str(value)
        if not re.fullmatch(r"\w[\w.]{,39}", text):
            words = re.sub(r"[^\w.]+", "-", text).strip("-.")[:40]
            words += f"-{hashlib.sha256(text.encode()).hexdigest()[:6]}"
        parts.append(f"{name.lower()}-{words}")
    return "-".join(parts)


def _tables() -> dict[str, dict]:
    return tomllib.loads(_TOML.read_text(encoding="utf-8"))


def _merged(base: dict, changes: dict) -> dict:
    """Return ``base`` with ``changes``, key by key all the way down."""
    merged = dict(base)
    for key, value in changes.items():
        merged[key] = _merged(base[key], value) if isinstance(base.get(key), dict) else value
    return merged


def _profile(name: str, settings: dict, overrides: dict[str, object]) -> Profile:
    changed = {}
    for key, value in overrides.items():
        if key not in settings:
            raise unknown("setting of a profile", key, settings)
        if value not in ("auto", settings[key]):
            changed[key] = settings[key] = value
    return Profile(
        name=name,
        run=os.environ.get("WORKBOOK_RUN") or run_name(name, changed),
        **{k: SimpleNamespace(**v) if isinstance(v, dict) else v for k, v in settings.items()},
    )
