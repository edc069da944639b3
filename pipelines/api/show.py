"""What runs have made as a notebook shows it: tables of pandas, pages and pictures."""

import base64
import io
import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from components.shared.errors import UserError
from components.shared.formats.comparison import Comparison
from components.shared.formats.evaluation import SCALAR_METRICS, Evaluation, list_measured_splits
from components.shared.formats.examples import ImageExample
from components.shared.formats.transformed_images import TransformedImage

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Page:
    """A page of a run, in a frame of the notebook."""

    path: Path  # of the HTML file
    height: int = 700  # pixels

    def _repr_html_(self) -> str:
        """The page as part of the notebook; its links to other pages work in a browser alone."""
        content = escape(self.path.read_text(encoding="utf-8"))
        style = f"width: 100%; height: {self.height}px; border: 1px solid #ccc"
        return f'<iframe srcdoc="{content}" sandbox="allow-scripts allow-downloads" style="{style}"></iframe>'


class Gallery:
    """Images with their classes, beside each other.

    Attributes:
        images: those that are shown.
        width: of each, in pixels.
        is_whole: whether there are no more images than these.
    """

    def __init__(self, images: Iterable[ImageExample | TransformedImage], limit: int = 24, width: int = 110) -> None:
        """Takes the first images; if there are more, a line above them says so.

        Args:
            images: such as examples.read("train").
            limit: the most that are shown.
            width: of each, in pixels.
        """
        rest = iter(images)
        self.images, self.width = list(itertools.islice(rest, limit)), width
        self.is_whole = next(rest, None) is None

    def _repr_html_(self) -> str:
        """The pictures with their captions."""
        figures = "".join(map(self._draw, self.images))
        more = "" if self.is_whole else f"<p>The first {len(self.images)}; there are more.</p>"
        return f'{more}<div style="display: flex; flex-wrap: wrap; gap: 8px">{figures}</div>'

    def _draw(self, image: ImageExample | TransformedImage) -> str:
        if isinstance(image, ImageExample):
            kind, content, name = image.format, image.encoded, image.filename
        else:
            kind, content, name = "png", _encode(image.pixels), ""
        return (
            f'<figure style="margin: 0; width: {self.width}px"><img alt="" style="width: 100%" '
            f'src="data:image/{kind};base64,{base64.b64encode(content).decode()}">'
            f'<figcaption style="overflow-wrap: anywhere"><b>{escape(image.class_name)}</b> {escape(name)}</figcaption>'
            "</figure>"
        )


def _encode(pixels: NDArray[np.float32]) -> bytes:
    """The picture as PNG; the pixels are those of TransformedImage."""
    tones = pixels.clip(0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(tones[:, :, 0] if tones.shape[2] == 1 else tones).save(buffer, "PNG")
    return buffer.getvalue()


def make_frame(content: "Iterable[Any] | Mapping[str, Any]") -> "pd.DataFrame":
    """Rows, or a document with figures, as a data frame of pandas.

    Args:
        content: Rows as the methods of Run give them; or a document: an Evaluation and a Comparison become a row for
            each split, any other one, such as a Training, a single row.

    Returns:
        A column for each field.

    Raises:
        UserError: pandas is not installed.
    """
    try:
        import pandas as pd  # here, since the command line has none
    except ModuleNotFoundError:
        raise UserError("pandas is not installed here; make notebook installs it.") from None
    if not isinstance(content, Mapping):
        rows = list(content)
    elif content.keys() >= Comparison.__required_keys__:
        rows = _list_changes(cast(Comparison, content))
    elif content.keys() >= Evaluation.__required_keys__:
        rows = _list_figures(cast(Evaluation, content))
    else:
        rows = [content]
    columns = getattr(rows[0], "_fields", None) if rows else None
    return pd.DataFrame(rows, columns=columns)


def _list_figures(evaluation: Evaluation) -> list[dict[str, Any]]:
    """The figures of each measured split."""
    return [
        {
            "split": split,
            "images": figures["images"],
            **{name: figures[name] for name in SCALAR_METRICS},
            "accuracy_low": figures["accuracy_interval"][0],
            "accuracy_high": figures["accuracy_interval"][1],
        }
        for split, figures in list_measured_splits(evaluation).items()
    ]


def _list_changes(comparison: Comparison) -> list[dict[str, Any]]:
    """How the accuracy on each split has changed."""
    return [
        {"split": split, "images": figures["images"], **figures["accuracy"], "mcnemar_p": figures["mcnemar_p"]}
        for split, figures in comparison["splits"].items()
    ]
