import numpy as np
from PIL import Image, ImageDraw

from components.curate.content import find_flips, flip_numerals
from components.shared.duplicates import fingerprint

NUMBER = 12  # pictures of each class


def draw_arrow(rng: np.random.Generator, name: str) -> np.ndarray:
    """A triangle that points to a side, or up."""
    image = Image.new("RGB", (48, 48), "white")
    x, y = (int(value) for value in rng.integers(20, 28, 2))
    corners = {
        "left": [(x - 16, y), (x + 12, y - 14), (x + 12, y + 14)],
        "right": [(x + 16, y), (x - 12, y - 14), (x - 12, y + 14)],
        "up": [(x, y - 16), (x - 14, y + 12), (x + 14, y + 12)],
    }
    ImageDraw.Draw(image).polygon(corners[name], fill=(30, 90, 160))
    return np.asarray(image)


def test_only_classes_whose_flipped_pictures_look_like_them_are_flipped() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat(["left", "right", "up"], NUMBER)
    fingerprints = [fingerprint(draw_arrow(rng, str(name))) for name in labels]
    assert find_flips(fingerprints, labels) == {"up": ["horizontal"]}
    few = [*range(NUMBER), *range(2 * NUMBER, 2 * NUMBER + 4)]
    assert "up" not in find_flips([fingerprints[number] for number in few], labels[few])


def test_numerals_are_flipped_where_they_stay_what_they_are() -> None:
    found = flip_numerals({"i", "iv", "X"})
    assert found == {"i": ["horizontal"], "X": ["horizontal", "vertical"]}
    assert flip_numerals({"i", "x", "cat"}) == {}, "x may be anything among other classes"
