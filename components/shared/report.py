"""Self-contained HTML reports: one file, no address outside it, text from the data escaped."""

import io
from pathlib import Path
from typing import Any

import jinja2
import matplotlib
from markupsafe import Markup
from matplotlib.figure import Figure

from components.shared.files import new_file

TEMPLATES = Path(__file__).parents[1]  # components/, whose stages have templates of their own


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
    with new_file(output) as path:
        # Piece by piece, since a page with many pictures is large.
        environment.get_template(template).stream(**values).dump(str(path), encoding="utf-8")


def render_svg(figure: Figure) -> Markup:
    """Draws the figure as an inline SVG element, with the same bytes each time."""
    with matplotlib.rc_context({"svg.hashsalt": "report", "svg.fonttype": "none"}):
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", bbox_inches="tight", metadata={"Date": None})
    return Markup(buffer.getvalue()[buffer.getvalue().index("<svg") :])
