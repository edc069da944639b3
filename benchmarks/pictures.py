"""Pictures that are no numerals, drawn or taken from scikit-learn: shapes, digits, textures, gradients."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from sklearn.datasets import load_digits, load_sample_images

Picture = NDArray[np.uint8]  # [height, width] in gray, or [height, width, 3] in colour

SHAPES = ("circle", "square", "triangle", "star", "cross", "diamond")
APART = 0.05  # share of the side by which crops of one photograph differ in place, to count as different


def draw_shape(rng: np.random.Generator, shape: str, colour: tuple[int, int, int], *, filled: bool = True) -> Picture:
    """One of SHAPES somewhere on white, uint8 [64, 64, 3]."""
    image = Image.new("RGB", (64, 64), "white")
    draw, radius = ImageDraw.Draw(image), int(rng.integers(8, 22))
    x, y = (int(value) for value in rng.integers(radius + 1, 64 - radius, 2))
    box = (x - radius, y - radius, x + radius, y + radius)
    style = {"fill": colour} if filled else {"outline": colour, "width": 2}
    if shape == "circle":
        draw.ellipse(box, **style)
    elif shape == "square":
        draw.rectangle(box, **style)
    else:
        draw.polygon([(x + radius * across, y + radius * down) for across, down in list_corners(shape)], **style)
    return np.asarray(image)


def list_corners(shape: str) -> list[tuple[float, float]]:
    """The corners of a shape within a circle of radius 1 around 0."""
    third = 1 / 3
    if shape == "triangle":
        return [(0, -1), (-1, 1), (1, 1)]
    if shape == "diamond":
        return [(0, -1), (0.6, 0), (0, 1), (-0.6, 0)]
    if shape == "cross":
        quarter = [(third, -1), (third, -third), (1, -third)]
        turned = [(-down, across) for across, down in quarter]
        return quarter + turned + [(-across, -down) for across, down in quarter + turned]
    angles = np.arange(10) * np.pi / 5
    return [
        (float(radius * np.sin(angle)), float(-radius * np.cos(angle)))
        for radius, angle in zip([1, 0.4] * 5, angles, strict=True)
    ]


def draw_digits(scale: int) -> tuple[list[Picture], list[str]]:
    """scikit-learn's digits, uint8 [8 * scale, 8 * scale], and what they are."""
    digits = load_digits()
    small = np.rint(digits.images * 255 / 16).astype(np.uint8)
    side = 8 * scale
    images = [np.asarray(Image.fromarray(digit).resize((side, side), Image.Resampling.BICUBIC)) for digit in small]
    return images, [str(digit) for digit in digits.target]


def load_photographs() -> list[Picture]:
    """The two photographs of scikit-learn, uint8 [427, 640, 3]: a building among trees, and a flower."""
    return list(load_sample_images().images)


def cut_textures(rng: np.random.Generator, photograph: Picture, count: int, side: int) -> list[Picture]:
    """Crops of a photograph, none of which is nearly another one."""
    height, width = photograph.shape[:2]
    places: list[tuple[int, int]] = []
    while len(places) < count:
        place = (int(rng.integers(height - side + 1)), int(rng.integers(width - side + 1)))
        if all(np.abs(np.subtract(place, other)).max() > APART * side for other in places):
            places.append(place)
    return [np.ascontiguousarray(photograph[y : y + side, x : x + side]) for y, x in places]


def draw_gradient(rng: np.random.Generator) -> Picture:
    """From one colour to another at some angle, uint8 [96, 96, 3]."""
    y, x = np.mgrid[0:96, 0:96] / 95
    angle = rng.uniform(0, 2 * np.pi)
    along = np.cos(angle) * x + np.sin(angle) * y
    one, other = rng.integers(0, 256, (2, 3))
    share = (along - along.min()) / np.ptp(along)
    return np.rint(one + (other - one) * share[..., None]).astype(np.uint8)
