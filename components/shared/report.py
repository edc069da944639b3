"""Self-contained HTML reports: one file, no address outside it, text from the data escaped."""

import base64
import io
from pathlib import Path
from typing import Any

import jinja2
import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure
from PIL import Image

from components.shared.errors import UserError
from components.shared.files import new_file
from components.shared.formats.examples import ExampleSet

TEMPLATES = Path(__file__).parents[1]  # components/, whose stages have templates of their own
THUMBNAIL = (140, 105)  # pixels
TINT = 40  # of 255: how far the channels of a grey pixel may be apart
COLOURED = 0.01  # share of the pixels: more that are not grey make a picture one in colour


def write_report(output: str, template: str, **values: Any) -> None:
    """Renders a template to an HTML file.

    Args:
        output: The path of the file.
        template: The path of a Jinja template, below components/.
        values: What the template shows; text is escaped.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    html = environment.get_template(template).render(**values)
    with new_file(output) as path:
        path.write_text(html, encoding="utf-8")


def draw_thumbnail(encoded: bytes, size: tuple[int, int] = THUMBNAIL) -> str:
    """Makes a small picture, of at most this width and height, of an encoded one; returns it as a data: address.

    A PNG of 16 tones shows what is grey, such as ink on paper; what has colours is a JPEG.
    """
    picture = Image.open(io.BytesIO(encoded)).convert("RGB")
    picture.thumbnail(size)
    buffer = io.BytesIO()
    if has_colours := _has_colours(picture):
        picture.save(buffer, "JPEG", quality=85)
    else:
        picture.quantize(16).save(buffer, "PNG", optimize=True)
    kind = "jpeg" if has_colours else "png"
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _has_colours(picture: Image.Image) -> bool:
    """Whether its colours are more than the tint of a scanned page; the picture is in RGB."""
    tinted = np.ptp(np.asarray(picture), axis=2) > TINT
    return bool(tinted.mean() > COLOURED)


def draw_thumbnails(examples: ExampleSet, filenames: set[str], size: tuple[int, int] = THUMBNAIL) -> dict[str, str]:
    """Makes the thumbnails of these images, by file name, in one pass over the shards of their splits.

    Raises:
        UserError: One cannot be decoded.
    """
    found = {}
    for split in examples.manifest.splits:
        wanted = {name for name in filenames if name.startswith(f"{split}/")}
        if wanted:
            for example in examples.read(split):
                if example.filename in wanted:
                    try:
                        found[example.filename] = draw_thumbnail(example.encoded, size)
                    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
                        raise UserError(f"{example.filename}: cannot be decoded; rerun ingest on the data.") from None
    return found


def render_svg(figure: Figure) -> Markup:
    """Draws the figure as an inline SVG element, with the same bytes each time."""
    with matplotlib.rc_context({"svg.hashsalt": "report", "svg.fonttype": "none"}):
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", bbox_inches="tight", metadata={"Date": None})
    return Markup(buffer.getvalue()[buffer.getvalue().index("<svg") :])
