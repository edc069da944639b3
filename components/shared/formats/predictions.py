"""What a model predicts for every image, by split, those with the highest loss first: CSV, or Parquet for many images.

As a pandas table it has the columns below, and `probability_<class>` for each class. Where the model was trained with
several seeds, it has `prediction_seed_<seed>` for each model but the first.
"""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple

from components.shared.errors import UserError, cut, quote, shorten
from components.shared.files import open_regular
from components.shared.formats.examples import SPLITS, ImageExample
from components.shared.formats.tables import quote_formula, unquote_formula

if TYPE_CHECKING:
    import pandas as pd

SPLIT = "split"
FILENAME = "filename"
SHA256 = "sha256"
LABEL = "label"  # the name of the class that the image was given
PREDICTION = "prediction"  # the name of the class that the model finds most probable
CONFIDENCE = "confidence"  # the probability of that class
LOSS = "loss"  # cross-entropy of the given label, in nats
MEAN_INTENSITY = "mean_intensity"
CONTRAST = "contrast"
INK_FRACTION = "ink_fraction"
ASPECT_RATIO = "aspect_ratio"
BYTES = "bytes"
HEIGHT = "height"
WIDTH = "width"
SCALARS = (MEAN_INTENSITY, CONTRAST, INK_FRACTION, ASPECT_RATIO, BYTES, HEIGHT, WIDTH)

MOST_CELLS_AS_CSV = 5_000_000  # which pandas takes some ten seconds to write, and twenty times as long as Parquet
PARQUET = b"PAR1"  # the first bytes of such a file

_SEED_PREDICTION = "prediction_seed_"
_TEXTS = (SPLIT, FILENAME, SHA256, LABEL, PREDICTION)
_NUMBERS = (*SCALARS, CONFIDENCE, LOSS)
_ADVICE = "give the predictions as evaluate writes them"


class PredictedImage(NamedTuple):
    """A row of the table, without the scalars, for reports."""

    filename: str
    label: str
    prediction: str
    confidence: float
    loss: float


def name_probability(class_name: str) -> str:
    """Names the column with the probability of a class.

    Args:
        class_name: The class.

    Returns:
        The name.
    """
    return f"probability_{class_name}"


def name_seed_prediction(seed: int) -> str:
    """Names the column with what the model of another seed predicts."""
    return f"{_SEED_PREDICTION}{seed}"


def list_predictions(table: "pd.DataFrame") -> list[str]:
    """Lists the columns with the prediction of each seed, that of the model first."""
    return [PREDICTION, *(name for name in table.columns if str(name).startswith(_SEED_PREDICTION))]


def describe_image(split: str, example: ImageExample) -> dict[str, str | float]:
    """Fills in the cells of a row that do not come from the model.

    Args:
        split: The split of the image.
        example: The image.

    Returns:
        The cells by the name of their column.
    """
    return {
        SPLIT: split,
        FILENAME: example.filename,
        SHA256: example.sha256,
        LABEL: example.class_name,
        MEAN_INTENSITY: example.mean_intensity,
        CONTRAST: example.contrast,
        INK_FRACTION: example.ink_fraction,
        ASPECT_RATIO: example.aspect_ratio,
        BYTES: example.bytes,
        HEIGHT: example.height,
        WIDTH: example.width,
    }


def list_rows(table: "pd.DataFrame") -> list[PredictedImage]:
    """Lists the rows of a table.

    Args:
        table: Predictions, as described above.

    Returns:
        The rows, in the order of the table.
    """
    return [PredictedImage(*cells) for cells in table[list(PredictedImage._fields)].itertuples(index=False)]


def write_predictions(table: "pd.DataFrame", path: Path) -> None:
    """Writes a table: as CSV, its numbers with six significant digits and no text a formula for a spreadsheet.

    With more than MOST_CELLS_AS_CSV cells, it is written as Parquet, as it is.

    Args:
        table: Predictions, as described above.
        path: The file.
    """
    if table.size > MOST_CELLS_AS_CSV:
        table.to_parquet(path, index=False)
        return
    texts = dict.fromkeys([*_TEXTS, *list_predictions(table)])
    quoted = table.assign(**{name: table[name].map(quote_formula) for name in texts})
    quoted.to_csv(path, index=False, float_format="%.6g")


def read_predictions(path: str | Path, classes: Collection[str] | None = None) -> "pd.DataFrame":
    """Reads predictions, without the probabilities of the classes.

    Args:
        path: The file, CSV or Parquet.
        classes: The names that labels and predictions may have; None does not check them.

    Returns:
        The table, by file name: texts as str, numbers as float64.

    Raises:
        UserError: The file is not such a table, has an image twice, or names an unknown split or class.
    """
    table = _read_table(path)
    twice = table[FILENAME][table[FILENAME].duplicated()]
    if len(twice):
        raise UserError(f"{path}: has {twice.iloc[0]} twice; {_ADVICE}.")
    of_classes = [(column, classes) for column in (LABEL, *list_predictions(table))]
    for column, known in ((SPLIT, SPLITS), *of_classes):
        unknown = table[column][~table[column].isin(list(known or ()))]
        if known is not None and len(unknown):
            raise UserError(
                f"{path}: has the {column} {quote(unknown.iloc[0])}, which is none of {', '.join(known)}; "
                "give predictions of the same run as the other inputs."
            )
    return table.sort_values(FILENAME, ignore_index=True)


def _read_table(path: str | Path) -> "pd.DataFrame":
    """The columns of texts and numbers, if every row has all of them."""
    import numpy as np
    import pandas as pd  # here, since the tools have neither

    try:
        with open_regular(path) as file:
            table = _read_parquet(file) if file.peek(len(PARQUET)).startswith(PARQUET) else _read_csv(file)
        if missing := [name for name in (*_TEXTS, *_NUMBERS) if name not in table]:
            raise ValueError(f"no column {', '.join(missing)}")
        if table.empty:
            raise ValueError("no rows")
        if not isinstance(table.index, pd.RangeIndex):  # pandas takes the first cells for names of the rows
            raise ValueError("more cells than the header has columns")
        numbers = table[list(_NUMBERS)]
        is_whole = table.notna().all(axis=1) & np.isfinite(numbers).all(axis=1)
        if not is_whole.all():
            raise ValueError(f"a cell of {table[FILENAME][~is_whole].iloc[0]} is missing or is not a number")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or cut(shorten(error))
        raise UserError(f"{path}: cannot be read as predictions ({reason}); {_ADVICE}.") from None
    return table[[*_choose_texts(list(table)), *_NUMBERS]]


def _choose_texts(header: Sequence[str]) -> list[str]:
    """Those of the columns that hold texts.

    Raises:
        ValueError: A column stands twice.
    """
    for name in header:
        if header.count(name) > 1:
            raise ValueError(f"the column {quote(name)} twice")
    return [name for name in header if name in _TEXTS or name.startswith(_SEED_PREDICTION)]


def _read_csv(file: IO[bytes]) -> "pd.DataFrame":
    """All columns, so that a row with too few or too many cells is noticed.

    Raises:
        ValueError: It is no such table.
    """
    import pandas as pd

    texts = _choose_texts(list(pd.read_csv(file, header=None, nrows=1, dtype=str, keep_default_na=False).iloc[0]))
    kinds: dict[str, type] = {**dict.fromkeys(texts, str), **dict.fromkeys(_NUMBERS, float)}
    file.seek(0)
    # A class may be called NA or 1.
    table = pd.read_csv(file, dtype=kinds, keep_default_na=False, low_memory=False)
    return table.assign(**{name: table[name].map(unquote_formula) for name in texts})


def _read_parquet(file: IO[bytes]) -> "pd.DataFrame":
    """The columns of texts and numbers, as far as they are there.

    Raises:
        ValueError: It is no such table.
        OSError: It is damaged.
    """
    import pyarrow as pa
    from pyarrow import parquet

    try:
        content = parquet.ParquetFile(file)
        header = content.schema_arrow.names
        kinds = {**dict.fromkeys(_NUMBERS, pa.float64()), **dict.fromkeys(_choose_texts(header), pa.string())}
        wanted = [name for name in header if name in kinds]
        rows = content.read(wanted).cast(pa.schema([(name, kinds[name]) for name in wanted]))
        return rows.to_pandas(ignore_metadata=True)  # which looks at the texts
    except pa.ArrowException as error:
        raise ValueError(error) from None
