"""What people decided about images: decisions.csv as review.html saves it, or issues.csv filled in by hand.

People edit these files, and spreadsheets save them in many ways. So they are read leniently where the meaning is clear,
and every mistake is a sentence that names the file and the line. What people decided with other tools is read here as
well, and checked in the same way: an export of Label Studio, labels.json of FiftyOne, or a table of labels.
"""

import csv
import posixpath
import re
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from components.shared.errors import UserError, name_unknown, quote
from components.shared.files import new_file, open_regular
from components.shared.formats.fiftyone import read_dataset
from components.shared.formats.given_labels import (
    GivenLabel,
    find_image_name,
    is_label_table,
    name_drop,
    name_image,
    read_labels,
)
from components.shared.formats.label_studio import read_export
from components.shared.formats.tables import (
    SEPARATORS,
    check_spelling,
    decode_text,
    find_separator,
    parse_row,
    read_rows,
    unquote_formula,
    write_rows,
)

WORDS = ("keep", "relabel", "drop", "skip")
# What review.html writes; read_decisions accepts other columns too, and needs those of REQUIRED and one of LABELS.
COLUMNS = ("sha256", "filename", "label", "decision", "new_label", "decided_at")
ADVICE = "give decisions.csv of review.html, or issues.csv with decisions filled in"
LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")  # of a text, with what ends it
REQUIRED = ("sha256", "filename", "decision")
LABELS = ("decided_label", "new_label")  # the class that a person gave; in issues.csv, new_label is a suggestion
FILE = "decisions.csv"  # what review.html saves
# Whoever decides on the page of the disputed images has seen what the others say, and has the last word.
SETTLED = "settled"
SETTLED_FILE = f"decisions-{SETTLED}.csv"  # what that page saves
# What people decided in earlier turns of the loop counts where nobody decides anew.
EARLIER = "earlier"
EARLIER_FILE = f"decisions-{EARLIER}.csv"  # what a run leaves of it in its folder, about the images that it curated


class SavedDecision(NamedTuple):
    """A row of decisions.csv, as COLUMNS names its cells."""

    sha256: str  # of the file as the user has it
    filename: str  # split/class/file
    label: str  # the class that it has in the data version
    decision: str  # one of WORDS
    new_label: str  # only with relabel
    decided_at: str  # ISO 8601


class Decision(NamedTuple):
    """What a person decided about an image."""

    sha256: str  # of the file as the user has it
    filename: str  # split/class/file
    label: str  # the class that it has in the data version
    decision: str  # keep, relabel or drop
    new_label: str = ""  # only with relabel

    @property
    def outcome(self) -> str:
        """The class that the image has then; empty if it is dropped."""
        return "" if self.decision == "drop" else self.new_label or self.label

    def __str__(self) -> str:
        """The decision as the review page words it."""
        return f"relabel to {self.new_label}" if self.new_label else self.decision


def name_reviewer(file: str) -> str:
    """The name of the person whose decisions a file holds: anna of decisions-anna.csv, wherever it is.

    A browser that saves a file a second time calls it decisions-anna (1).csv; that is anna's as well.

    Args:
        file: Its path or address.
    """
    stem = re.sub(r" ?\([0-9]+\)$", "", PurePosixPath(file).stem)
    return normalize_name(stem.removeprefix("decisions-") or stem)


def normalize_name(name: str) -> str:
    """A person's name in the form in which keyboards give it; file names may have its letters in another one."""
    return unicodedata.normalize("NFC", name)


def check_deciding_reviewer(name: str, reviewers: Collection[str]) -> None:
    """Checks that the person whose word counts where people disagree is one of those who decided.

    Args:
        name: Of that person; empty for nobody.
        reviewers: Who decided. One alone disagrees with nobody, and may be another person; EARLIER disagrees with
            nobody either.

    Raises:
        UserError: Several people decided, and nobody of that name.
    """
    people = [reviewer for reviewer in reviewers if reviewer != EARLIER]
    if name and len(people) > 1 and normalize_name(name) not in people:
        raise UserError(name_unknown("the deciding_reviewer", name, people))


def read_decisions(
    path: str | Path,
    examples: Mapping[tuple[str, str], str],
    classes: Collection[str],
    *,
    reviewer: str = "",
    shown: str = "",
) -> dict[str, list[Decision]]:
    """Reads the decisions.

    Args:
        path: The file: decisions.csv or issues.csv, UTF-8, with a comma, semicolon or tab between cells; an export of
            Label Studio as JSON or JSON-MIN; labels.json of FiftyOne; or a CSV file with `filename` and `label`.
        examples: The label of each image of the data version that may be decided about, by (sha256, filename).
        classes: The names that a decision may give.
        reviewer: The person after whom the file is named.
        shown: What messages call the file, if not by its path.

    Returns:
        One decision per image, in the order of the file, by the name of the person who decided: `reviewer`, or
        `reviewer-NAME` for each of several people that the file names. Rows without a decision, and those to skip, are
        left out.

    Raises:
        UserError: The file is none of these, or a row names no image or class of this data version, says nothing clear,
            or contradicts another row of the same person about the same image or one of the same bytes.
    """
    place = shown or str(path)
    images = _Images(examples)
    by_annotator: dict[str, dict[str, tuple[str, Decision]]] = {}
    for row in _read_file(Path(path), place, classes):
        decided = by_annotator.setdefault(row.annotator, {})
        if decision := _parse_row(row, images, classes):
            where, earlier = decided.setdefault(decision.filename, (row.where, decision))
            if earlier != decision:
                raise row.error(
                    f"{decision.filename} is {_describe(decision)}, but {where} has it {_describe(earlier)};"
                    " leave one of the two."
                )
    reviews: dict[str, list[Decision]] = {}
    for annotator, person in _name_people(by_annotator, reviewer).items():
        decided = by_annotator.get(annotator, {})
        _check_copies(place, decided.values(), person)
        reviews[person] = [decision for _, decision in decided.values()]
    return reviews


def write_decisions(path: Path, decisions: Iterable[SavedDecision]) -> None:
    """Writes decisions.csv as review.html saves it, all of it or nothing."""
    with new_file(path) as temporary:
        write_rows(temporary, COLUMNS, decisions)


def read_saved_decisions(path: Path) -> list[SavedDecision]:
    """The rows of a decisions.csv as it was saved, those to skip among them.

    Raises:
        UserError: The file is none.
    """
    advice = "move it, or name another file"
    rows = read_rows(path, COLUMNS, advice)
    return [parse_row(SavedDecision, row, place=f"{path}, line {line}", advice=advice) for line, row in rows]


def check_decisions(
    path: str | Path, classes: Collection[str] = (), *, reviewer: str = "", shown: str = ""
) -> list[str]:
    """Checks each row by itself, before the images are known.

    Args:
        path: The file, as read_decisions takes it.
        classes: The names that a decision may give, if they are known.
        reviewer: The person after whom the file is named.
        shown: What messages call the file, if not by its path.

    Returns:
        The names of the people who decided, as read_decisions has them.

    Raises:
        UserError: The file is none that read_decisions takes, or a decision is none of WORDS, or lacks its class or has
            another.
    """
    annotators = set()
    for row in _read_file(Path(path), shown or str(path), classes):
        annotators.add(row.annotator)
        _, cell = _read_choice(row)
        if classes:
            _find_class(row, cell, classes)
    return list(_name_people(annotators, reviewer).values())


# --- from the file to rows ---------------------------------------------------------------------


class _Row(NamedTuple):
    """A row of the file."""

    place: str  # the file, for messages
    where: str  # in the file, likewise: line 3, or task 5
    cells: dict[str, str]  # one for every column
    annotator: str = ""  # who decided, if the file says so
    is_of_tool: bool = False  # whether `filename` may be what another tool has kept of it

    def error(self, sentence: str) -> UserError:
        """The error that says what is wrong in this row."""
        return UserError(f"{self.place}, {self.where}: {sentence}")


def _name_people(annotators: Collection[str], reviewer: str) -> dict[str, str]:
    """The person behind each annotator of a file; one alone, who may have a number in the file, is the reviewer."""
    if len(annotators) < 2:
        return {next(iter(annotators), ""): reviewer}
    return {name: f"{reviewer}-{name}" if name else reviewer for name in sorted(annotators)}


def _read_file(path: Path, place: str, classes: Collection[str]) -> Iterator[_Row]:
    """Tells from what a file begins with which format it has, and yields its rows."""
    text = _read_text(path, place)
    start = text.lstrip()[0]
    if start == "[":
        return _read_labels(read_export(path, shown=place), place, classes)
    if start == "{":
        return _read_labels(read_dataset(path, shown=place), place, classes)
    header = _find_first_line(text)
    names = {cell.strip().lower() for cell in re.split(f"[{SEPARATORS}]", header.replace('"', ""))}
    if is_label_table(names) and names.isdisjoint(("decision", *LABELS)):
        return _read_labels(read_labels(path, shown=place), place, classes)
    return _read_rows(text, place)


def _find_first_line(text: str) -> str:
    found = LINE.match(text)
    return found[0].rstrip("\r\n") if found else ""


def _read_labels(labels: Iterable[GivenLabel], place: str, classes: Collection[str]) -> Iterator[_Row]:
    """Yields the labels that people gave with another tool as rows; one without a label decides nothing."""
    drop = name_drop(classes)
    for given in labels:
        label = given.label if given.label in classes else given.label.strip()
        word = "drop" if label == drop else "relabel" if label else ""
        new_label = label if word == "relabel" else ""
        cells = {"sha256": given.sha256, "filename": given.name, "decision": word, "new_label": new_label}
        yield _Row(place, given.where, cells, given.annotator, is_of_tool=True)


def _read_rows(text: str, place: str) -> Iterator[_Row]:
    """Yields the rows below the header that are not blank.

    Cells at the end of a row may be missing: Excel leaves out empty ones.
    """
    header: list[str] = []
    next_line = 1
    try:
        separator = find_separator(_find_first_line(text), REQUIRED)
        lines = (line[0] for line in LINE.finditer(text))  # io.StringIO would take four bytes for each character
        reader = csv.reader(lines, delimiter=separator, strict=True)
        for cells in reader:
            line, next_line = next_line, reader.line_num + 1
            if not header:
                header = _parse_header(place, cells)
            elif len(cells) > len(header):
                raise UserError(
                    f"{place}, line {line}: {len(cells)} cells below a header of {len(header)};"
                    " save the file with a spreadsheet, which quotes what contains the separator."
                )
            elif any(cells):
                texts = [unquote_formula(cell) for cell in cells] + [""] * (len(header) - len(cells))
                row = _Row(place, f"line {line}", dict(zip(header, texts, strict=True)))
                _check_separator(row, cells)
                yield row
    except csv.Error as error:
        raise UserError(f"{place}, line {next_line}: not readable as CSV ({error}); save it again as CSV.") from None


def _check_separator(row: _Row, cells: list[str]) -> None:
    """Refuses a row whose cells are separated otherwise than those of the header, as in two files put together."""
    sha256 = row.cells["sha256"]
    has_no_sha256 = not sha256.strip() or any(separator in sha256 for separator in SEPARATORS)
    parts = {part.strip().lower() for cell in cells for part in re.split(f"[{SEPARATORS}]", cell)}
    if len(cells) < len(row.cells) and has_no_sha256 and not row.cells["decision"] and parts.intersection(WORDS):
        raise row.error("separated otherwise than the header; give the whole file one separator.")


def _read_text(path: Path, place: str) -> str:
    """The text of the file, if it is UTF-8 and not blank."""
    try:
        with open_regular(path) as file:
            data = file.read()
    except (OSError, ValueError) as error:
        raise UserError(f"{place}: cannot be read ({getattr(error, 'strerror', error)}); {ADVICE}.") from None
    text = decode_text(data, place)
    if not text.strip():
        raise UserError(f"{place}: empty; {ADVICE}.")
    return text


def _parse_header(place: str, cells: list[str]) -> list[str]:
    """The names of the columns, if the necessary ones are there and none appears twice."""
    header = [cell.strip() for cell in cells]
    if "annotation_id" in header:
        raise UserError(f"{place}: a table of Label Studio; export the project as JSON or JSON-MIN.")
    if "prediction" in header and "decision" not in header:
        raise UserError(f"{place}: has what a model predicts, and not what people decided; {ADVICE}.")
    check_spelling(header, [*REQUIRED, *LABELS], f"{place}, line 1")
    missing = [name for name in REQUIRED if name not in header]
    if missing or set(LABELS).isdisjoint(header):
        raise UserError(
            f"{place}, line 1: no column {', '.join(missing) or 'new_label'};"
            " give decisions.csv of review.html, issues.csv with the columns decision and decided_label filled in, or a"
            " table with the columns filename and label."
        )
    return header


# --- from a row to a decision ------------------------------------------------------------------


class _Images:
    """The images of the data version, by name, by content, and by both."""

    def __init__(self, examples: Mapping[tuple[str, str], str]) -> None:
        self.examples = examples
        self.filenames = {filename for _, filename in examples}
        self.by_sha256 = dict(examples.keys())

    @cached_property
    def by_normal_form(self) -> dict[str, str]:
        """The file names by what they are in Unicode's normal form, in which some systems write them."""
        return {unicodedata.normalize("NFC", filename): filename for filename in self.filenames}

    @cached_property
    def by_name(self) -> dict[str, list[tuple[str, str]]]:
        """The images by all names that other tools may have for them."""
        found = defaultdict(list)
        for image in self.examples:
            for name in {image[1], posixpath.splitext(image[1])[0], name_image(*image)}:
                found[name].append(image)
        return found

    def find_named(self, row: _Row, name: str) -> tuple[str, str]:
        """The image that has this name in another tool.

        Raises:
            UserError: There is none, or there are several.
        """
        found = self.by_name.get(name) or self.by_name.get(find_image_name(name), [])
        exact = [image for image in found if image[1] == name]
        if len(exact or found) == 1:
            return (exact or found)[0]
        if found:
            names = " or ".join(sorted(filename for _, filename in found))
            raise row.error(f"{quote(name)} may be {names}; give the file name with its suffix.")
        known = min(self.filenames, default="")
        raise row.error(f"{quote(name)} is not in this data version; name its images as it does, such as {known}.")

    def find_label(self, row: _Row, sha256: str, filename: str) -> str:
        """The label of the image with this name and these bytes.

        Raises:
            UserError: There is none.
        """
        if (sha256, filename) in self.examples:
            return self.examples[sha256, filename]
        if not sha256 or not filename:
            raise row.error(f"a decision without {'filename' if sha256 else 'sha256'}; fill it in.")
        same_bytes = self.by_sha256.get(sha256)
        if filename not in self.filenames:
            known = f"is {same_bytes}" if same_bytes else "is not"
            raise row.error(f"{quote(filename)} {known} in this data version; decide on the issues of this version.")
        if same_bytes:
            raise row.error(f"the sha256 is that of {same_bytes}, not of {filename}; put each in its own row.")
        raise row.error(f"{filename} has another sha256 in this data version; decide on the issues of this version.")


def _parse_row(row: _Row, images: _Images, classes: Collection[str]) -> Decision | None:
    """The decision of a row; None if it is empty or says skip."""
    word, cell = _read_choice(row)
    new_label = _find_class(row, cell, classes)
    if word in ("", "skip"):
        return None
    sha256, filename = row.cells["sha256"].strip().lower(), row.cells["filename"]
    if row.is_of_tool and not sha256:
        sha256, filename = images.find_named(row, filename)
    if filename not in images.filenames:
        filename = images.by_normal_form.get(unicodedata.normalize("NFC", filename), filename)
    label = images.find_label(row, sha256, filename)
    if word != "relabel" and new_label not in ("", label):
        raise row.error(f"{word}, but also the new label {quote(new_label)}; write relabel, or leave the label out.")
    if word == "drop" or new_label in ("", label):  # relabelling to the label that it has keeps the image
        return Decision(sha256, filename, label, "drop" if word == "drop" else "keep")
    return Decision(sha256, filename, label, "relabel", new_label)


def _read_choice(row: _Row) -> tuple[str, str]:
    """One of WORDS, or "", and the cell with the class, which counts only with a decision."""
    word = row.cells["decision"].strip().lower()
    if word and word not in WORDS:
        raise row.error(f"the decision {quote(word)} is unknown; write {', '.join(WORDS)}, or nothing.")
    column = next(name for name in LABELS if name in row.cells)
    cell = row.cells[column]
    if word in ("", "skip"):
        # In issues.csv, which has an action, new_label is what the audit suggests.
        if cell.strip() and (column == "decided_label" or "action" not in row.cells):
            given = quote(cell.strip())
            raise row.error(
                f"{column} is {given}, but decision is {word or 'empty'}; write relabel there, or empty {column}."
            )
        return word, ""
    if word == "relabel" and not cell.strip():
        raise row.error(f"relabel, but {column} is empty; write the right class there.")
    return word, cell


def _find_class(row: _Row, cell: str, classes: Collection[str]) -> str:
    """The class that a person gave, or ""."""
    new_label = cell if cell in classes else cell.strip()
    if new_label not in classes:  # a keyboard may give é as one character, and the folder have it as two
        spelt = unicodedata.normalize("NFC", new_label)
        new_label = next((name for name in classes if unicodedata.normalize("NFC", name) == spelt), new_label)
    if new_label and new_label not in classes:
        raise row.error(f"the class {quote(new_label)} is unknown; the classes are {', '.join(classes)}.")
    return new_label


# --- all decisions together --------------------------------------------------------------------


def _check_copies(place: str, decided: Iterable[tuple[str, Decision]], reviewer: str) -> None:
    """Copies of one picture may not end up with two labels; keeping one and dropping the others is no contradiction.

    Only earlier turns may keep both, where people left open which label is right.

    Args:
        place: The file, for the message.
        decided: Each decision with its place in the file.
        reviewer: Who decided.

    Raises:
        UserError: Two copies would.
    """
    seen: dict[str, tuple[str, Decision]] = {}
    for where, decision in decided:
        if decision.decision == "drop":
            continue
        earlier_place, earlier = seen.setdefault(decision.sha256, (where, decision))
        is_left_open = reviewer == EARLIER and decision.decision == earlier.decision == "keep"
        if decision.outcome != earlier.outcome and not is_left_open:
            raise UserError(
                f"{place}, {where}: {decision.filename} is {_describe(decision)}, but {earlier.filename} in"
                f" {earlier_place}, which has the same bytes, is {_describe(earlier)}; give both one label or drop one."
            )


# --- for messages ------------------------------------------------------------------------------


def _describe(decision: Decision) -> str:
    if decision.decision == "drop":
        return "dropped"
    return f"relabelled {quote(decision.new_label)}" if decision.new_label else f"kept as {quote(decision.label)}"
