"""review.html: one page, without any other file, on which a person decides about suspicious images."""

import base64
import io
import math
from collections.abc import Iterable, Mapping
from typing import Any

from components.shared.report import write_report

LONGEST_SIDE = 200  # pixels
TEXTS = ("sha256", "filename", "split", "label", "action", "new_label", "prediction", "group", "why")
SHARES = ("probability", "label_probability")  # 0 .. 1


def write_review(
    path: str,
    rows: Iterable[Mapping[str, Any]],
    images: Iterable[tuple[str, bytes]],
    classes: list[str],
    data_version: str,
) -> None:
    """Writes the page for `rows`, the issues as issues.csv has them, best first.

    `images` gives (filename, PNG or JPEG bytes) in any order, so that one pass over the shards does; only those of the
    rows are kept, as thumbnails.

    Raises:
        KeyError: an image of a row is missing.
    """
    rows = list(rows)
    wanted = {row["filename"] for row in rows}
    pictures = {filename: _picture(encoded) for filename, encoded in images if filename in wanted}
    page = {
        "data_version": data_version,
        "classes": classes,
        "rows": [{**_plain(row), "picture": pictures[row["filename"]]} for row in rows],
    }
    write_report(path, "audit/review.html.j2", page=page)


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "rank": int(row["rank"]),
        "kinds": [kind for kind in row["kinds"].split(";") if kind],
        **{name: str(row[name]) for name in TEXTS},
        **{name: _share(row[name]) for name in SHARES},
    }


def _share(value: Any) -> float | None:
    """JSON knows no NaN."""
    return round(float(value), 4) if value not in ("", None) and math.isfinite(float(value)) else None


def _picture(encoded: bytes) -> str:
    """A PNG of at most LONGEST_SIDE pixels as a data: address."""
    from PIL import Image

    picture = Image.open(io.BytesIO(encoded)).convert("RGB")
    picture.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    buffer = io.BytesIO()
    picture.quantize(16).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
