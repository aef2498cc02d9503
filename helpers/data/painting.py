"""How one image of Shapes is painted, and which of its pixels is what.

Images kept on disk (:mod:`helpers.data.shapes`) are painted anew when this file changes.
"""

from colorsys import hsv_to_rgb
from functools import cache
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from helpers.run.errors import unknown

SIZE = 64
CLASSES = (
    "circle", "square", "triangle", "star", "cross",
    "ring", "crescent", "hexagon", "arrow", "heart",
)  # fmt: skip
HUES = {
    "red": 0.0, "orange": 0.075, "yellow": 0.155, "green": 0.33,
    "cyan": 0.5, "blue": 0.62, "purple": 0.76, "pink": 0.9,
}  # fmt: skip
TEXTURES = ("solid", "stripes", "dots", "checks", "gradient")
CONCEPTS = {
    "shape": CLASSES,
    "colour": tuple(HUES),
    "texture": TEXTURES,
    "background": TEXTURES,
}
SPLITS = {"train": 8000, "validation": 1000, "test": 4000}

_SUPERSAMPLE = 4


class Painting(NamedTuple):
    """One image of Shapes and its truth."""

    image: np.ndarray  # uint8 [64, 64, 3]
    mask: np.ndarray  # bool [64, 64], the visible object
    concepts: dict[str, np.ndarray]  # per category int8 [64, 64], -1 for none


def paint(seed: int, split: str, index: int) -> Painting:
    """Paint image ``index`` of a split; the same arguments give the same image."""
    rng = np.random.default_rng((seed, list(SPLITS).index(split), index))
    label = index % len(CLASSES)
    ground = rng.integers(len(TEXTURES))
    # A greyish ground: only objects and bars have a colour with a name.
    paper = np.array(hsv_to_rgb(rng.random(), rng.uniform(0, 0.18), rng.uniform(0.25, 0.85)))
    image = _textured(rng, TEXTURES[ground], paper, contrast=rng.uniform(0.1, 0.3))
    maps = {category: np.full((SIZE, SIZE), -1, np.int8) for category in CONCEPTS}
    maps["background"][:] = ground

    n_bars = rng.integers(1, 4)
    in_front = rng.random(n_bars) < 0.5
    for _ in range(n_bars - in_front.sum()):
        _add_bar(rng, image, maps)

    colour, texture = rng.integers(len(HUES)), rng.integers(len(TEXTURES))
    fill = _textured(rng, TEXTURES[texture], _ink(rng, colour), contrast=rng.uniform(0.3, 0.6))
    radius = rng.uniform(12, 24)
    centre = rng.uniform(0.85 * radius, SIZE - 0.85 * radius, 2)
    angle = rng.uniform(0, 2 * np.pi)
    coverage = _coverage(_placed(p, centre, radius, angle) for p in _outline(CLASSES[label]))
    _cover(image, maps, coverage, fill, shape=label, colour=colour, texture=texture)

    for _ in range(in_front.sum()):
        _add_bar(rng, image, maps)
    image += rng.normal(0, 0.05, image.shape)
    pixels = np.round(image.clip(0, 1) * 255).astype(np.uint8)
    return Painting(pixels, maps["shape"] >= 0, maps)


def _add_bar(rng: np.random.Generator, image: np.ndarray, maps: dict[str, np.ndarray]) -> None:
    """Draw a straight bar of some colour, 3 to 7 pixels wide and 20 to 50 long."""
    half = np.array([rng.uniform(10, 25), rng.uniform(1.5, 3.5)])
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * half
    colour = rng.integers(len(HUES))
    coverage = _coverage([_placed(corners, rng.uniform(4, SIZE - 4, 2), 1, rng.uniform(0, np.pi))])
    _cover(image, maps, coverage, _ink(rng, colour), shape=-1, colour=colour, texture=-1)


def _cover(image: np.ndarray, maps: dict[str, np.ndarray], coverage: np.ndarray, fill: np.ndarray,
           **concepts: int) -> None:  # fmt: skip
    """Lay ``fill`` over the image where ``coverage`` is, and rewrite the concepts there."""
    image += coverage[..., None] * (fill - image)
    hidden = coverage > 0.5
    maps["background"][hidden] = -1
    for category, value in concepts.items():
        maps[category][hidden] = value


def _ink(rng: np.random.Generator, colour: int) -> np.ndarray:
    """Return the RGB of a named colour, jittered in hue, saturation and value."""
    hue = list(HUES.values())[colour] + rng.uniform(-0.02, 0.02)
    return np.array(hsv_to_rgb(hue % 1, rng.uniform(0.55, 0.95), rng.uniform(0.6, 1.0)))


def _textured(
    rng: np.random.Generator, texture: str, colour: np.ndarray, contrast: float
) -> np.ndarray:
    """Return float [64, 64, 3]: ``colour``, darkened by up to ``contrast`` in a pattern."""
    angle, period = rng.uniform(0, np.pi), rng.uniform(5, 9)
    y, x = np.indices((SIZE, SIZE)) + rng.uniform(0, period, 2)[:, None, None]
    u = (x * np.cos(angle) + y * np.sin(angle)) / period
    v = (y * np.cos(angle) - x * np.sin(angle)) / period
    match texture:
        case "solid":
            dark = np.zeros_like(u)
        case "stripes":
            dark = u % 1 < 0.5
        case "dots":
            dark = np.hypot(u % 1 - 0.5, v % 1 - 0.5) < 0.3
        case "checks":
            dark = (u % 1 < 0.5) ^ (v % 1 < 0.5)
        case "gradient":  # from light to dark and back over 40 pixels, so that it shows on objects
            dark = np.abs((u * period / 20) % 2 - 1)
    return colour * (1 - contrast * dark[..., None])


@cache
def _outline(shape: str) -> tuple[np.ndarray, ...]:
    """Return a shape of radius 1 as polygons [n, 2] of (x, y); a second one is a hole."""

    def polygon(n: int, radius: float | np.ndarray = 1.0, x: float = 0.0) -> np.ndarray:
        turn = np.arange(n) * 2 * np.pi / n - np.pi / 2
        return np.stack([radius * np.cos(turn) + x, radius * np.sin(turn)], axis=1)

    match shape:
        case "circle":
            return (polygon(48, 0.9),)
        case "square":
            return (polygon(4),)
        case "triangle":
            return (polygon(3),)
        case "star":
            return (polygon(10, np.tile([1, 0.45], 5)),)
        case "hexagon":
            return (polygon(6, 0.95),)
        case "ring":
            return (polygon(48, 0.95), polygon(48, 0.5))
        case "crescent":
            return (polygon(48, 0.95), polygon(48, 0.75, x=0.45))
        case "cross":
            corner = np.array([(0.3, -0.95), (0.3, -0.3), (0.95, -0.3)])
            quarter = np.array([(0, 1), (-1, 0)])
            return (
                np.concatenate([corner @ np.linalg.matrix_power(quarter, k) for k in range(4)]),
            )
        case "arrow":
            half = [(1.0, 0.0), (0.15, 0.8), (0.15, 0.3), (-0.95, 0.3)]
            return (np.array(half + [(x, -y) for x, y in half[:0:-1]]),)
        case "heart":
            t = np.linspace(0, 2 * np.pi, 48, endpoint=False)
            x = 16 * np.sin(t) ** 3
            y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
            return (np.stack([x, -y - 2], axis=1) / 16,)
    raise unknown("shape", shape, CLASSES)


def _placed(polygon: np.ndarray, centre: np.ndarray, radius: float, angle: float) -> np.ndarray:
    """Turn, scale and move a polygon into pixel coordinates."""
    c, s = np.cos(angle), np.sin(angle)
    return polygon @ np.array([[c, s], [-s, c]]) * radius + centre


def _coverage(polygons) -> np.ndarray:
    """Return float [64, 64], the share of each pixel inside the first polygon, not the second."""
    canvas = Image.new("L", (SIZE * _SUPERSAMPLE, SIZE * _SUPERSAMPLE))
    draw = ImageDraw.Draw(canvas)
    for polygon, value in zip(polygons, (255, 0), strict=False):
        draw.polygon((polygon * _SUPERSAMPLE).ravel().tolist(), fill=value)
    return np.asarray(canvas.reduce(_SUPERSAMPLE)) / 255
