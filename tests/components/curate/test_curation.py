import csv
import hashlib
import json
import os
import re
import shutil
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from components.curate import curation
from components.curate.augmentation import Augmentation, apply_operations
from components.curate.cleaning import clean
from components.curate.curation import curate_examples
from components.curate.planning import Policy
from components.curate.voting import Voting
from components.ingest.ingestion import ingest_data
from components.shared.errors import UserError
from components.shared.formats import predictions as columns
from components.shared.formats.changes import Change
from components.shared.formats.decisions import name_reviewer
from components.shared.formats.examples import AUGMENTED, ExamplesManifest, ImageExample, is_augmented, open_examples
from components.shared.formats.issues import write_issues
from components.shared.formats.label_studio import make_choice
from components.shared.formats.manifest import FILE as MANIFEST
from components.shared.formats.manifest import CuratedImage, read_manifest, write_manifest
from components.shared.formats.predictions import describe_image, write_predictions
from tests.conftest import BEAM, CLASSES, Folders, contents, copy_folders
from tests.fakes.gcs import Gcs
from tests.pages import Page
from tests.rows import make_augmented, make_issue, make_prediction
from tests.shards import edit_record, set_text

EVIL = """<script>alert('1')<|script> & "quoted".png"""
LONG = f"train/v/{'ä' * 125}.png"  # 254 bytes
LEFT = "train/x/00.augmented-1.png"
POLICY = Policy(["train"], 0.9, 0.9, 2.0, "drop")
AUGMENTATION = Augmentation(10_000, 5.0, 75, 1.0, {"x": ["horizontal", "vertical"], "none": []}, "auto", "mild", 0.0, 1)
VOTING = Voting("majority", "")
OUTPUTS = ("data", "changes", "disputed", "report")

# What the audit says of the images below, by file name.
SAID: dict[str, dict[str, Any]] = {
    "train/v/00.png": {"action": "relabel", "new_label": "i", "confidence": 0.97, "why": "It looks like <i>."},
    "train/v/01.png": {"action": "relabel", "new_label": "x", "confidence": 0.7, "why": "Perhaps x."},
    "train/x/01.png": {"action": "drop", "confidence": 1, "why": "There is no ink."},
    "val/x/01.png": {"action": "drop", "confidence": 1, "why": "There is no ink."},
    "train/i/02.png": {"action": "keep_one", "confidence": 1, "group": 1},
    "train/i/copy.png": {"action": "keep_one", "confidence": 1, "group": 1},
    "train/v/03.png": {"action": "look", "confidence": 0.8, "group": 2},
    "val/v/twin.png": {"action": "keep_one", "confidence": 1, "group": 2},
}
POLICYS = {
    "train/v/00.png": ("relabelled", "policy", "i"),
    "train/x/01.png": ("dropped", "policy", ""),
    "train/i/copy.png": ("dropped", "duplicate", ""),
    "train/v/03.png": ("dropped", "duplicate", ""),
    "train/i/leak.png": ("dropped", "duplicate", ""),
}


class Inputs(NamedTuple):
    data: Folders
    examples: Path
    issues: Path
    predictions: Path


class Curated(NamedTuple):
    folder: Path
    counts: dict[str, int]

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def images(self) -> dict[str, bytes]:
        found = contents(self.data)
        return {name: content for name, content in found.items() if content is not None and name != MANIFEST}

    @property
    def manifest(self) -> dict[str, CuratedImage]:
        return {image.filename: image for image in read_manifest(self.data)}

    @property
    def changes(self) -> dict[str, dict[str, str]]:
        return {row["filename"]: row for row in rows(self.folder / "changes")}


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def inputs(tiny: Folders, tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    """The tiny data with what a curation has to deal with, and what other stages say of it."""
    root = tmp_path_factory.mktemp("inputs")
    data, test = copy_folders(tiny, root)
    train = data / "train"
    shutil.copy(train / "i" / "02.png", train / "i" / "copy.png")
    shutil.copy(train / "v" / "03.png", data / "val" / "v" / "twin.png")
    shutil.copy(test / "i" / "00.png", train / "i" / "leak.png")
    shutil.move(train / "v" / "07.png", data.parent / "data" / LONG)
    shutil.move(train / "v" / "06.png", train / "v" / EVIL)
    shutil.copy(train / "x" / "00.png", data / LEFT)
    write_manifest(data, [make_augmented(LEFT, (data / LEFT).read_bytes())])  # that of an earlier turn
    picture = Image.open(train / "x" / "07.png").convert("RGB")
    (train / "x" / "07.png").unlink()
    picture.save(train / "x" / "07.bmp")
    picture.rotate(10, fillcolor="white").save(train / "x" / "06.jpg")  # the name of 06.png, but for its end
    cv2.imwrite(str(train / "x" / "deep.png"), np.asarray(picture).astype(np.uint16)[::-1] * 257)
    examples = root / "examples"
    ingest(data, examples, test_data=str(test), data_version="before.dir")
    audit(examples, root / "issues", SAID)
    predict(examples, root / "predictions", {"val/v/00.png": "i", "val/v/01.png": "x", "test/i/00.png": "x"})
    return Inputs(Folders(data, test), examples, root / "issues", root / "predictions")


def ingest(data: Path, examples: Path, *, test_data: str = "", data_version: str = "") -> ExamplesManifest:
    return ingest_data(
        str(data),
        test_data_uri=test_data,
        data_version=data_version,
        classes=CLASSES,
        on_bad_image="fail",
        max_images=75,
        max_pixels=10_000_000,
        shards=2,
        beam_options=BEAM,
        output=str(examples),
    )


def read_all(examples: Path) -> Iterator[tuple[str, ImageExample]]:
    opened = open_examples(examples)
    for split in opened.manifest.splits:
        for example in opened.read(split):
            yield split, example


def audit(examples: Path, path: Path, said: dict[str, dict[str, Any]]) -> None:
    """Writes issues.csv with a row for each original of train and val; `said` has cells of some, by file name."""
    audited = [
        (split, example)
        for split, example in read_all(examples)
        if split != "test" and not is_augmented(example.filename)
    ]
    issues = [
        make_issue(
            rank=rank,
            sha256=example.sha256,
            filename=example.filename,
            split=split,
            label=example.class_name,
            **said.get(example.filename, {}),
        )
        for rank, (split, example) in enumerate(sorted(audited, key=lambda pair: pair[1].filename), start=1)
    ]
    write_issues(path, issues)


def predict(examples: Path, path: Path, wrong: dict[str, str]) -> None:
    """Writes the predictions of a model that is right but for these images."""
    rows = [
        make_prediction(**describe_image(split, example))
        | {columns.PREDICTION: wrong.get(example.filename, example.class_name)}
        for split, example in read_all(examples)
    ]
    write_predictions(pd.DataFrame(rows), path)


def write_decisions(path: Path, inputs: Inputs, decisions: dict[str, tuple[str, str]]) -> str:
    """decisions.csv as review.html saves it: (decision, new label) by file name."""
    known = {row["filename"]: row for row in rows(inputs.issues)}
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["sha256", "filename", "label", "decision", "new_label", "decided_at"])
        for filename, (decision, new_label) in decisions.items():
            row = known[filename]
            writer.writerow([row["sha256"], filename, row["label"], decision, new_label, "2026-01-01T00:00:00Z"])
    return str(path)


def curate(
    inputs: Inputs,
    folder: Path,
    decisions: str | list[str] = "",
    policy: Policy = POLICY,
    cleaning: list[str] | None = None,
    voting: Voting = VOTING,
    beam_options: list[str] = BEAM,
    **changed: Any,
) -> Curated:
    files = [decisions] if isinstance(decisions, str) else decisions
    uris = {name_reviewer(file): file for file in files if file}
    counts = curate_examples(
        curation.CurationInputs(str(inputs.examples), str(inputs.issues), str(inputs.predictions), uris),
        curation.CurationOutputs(*(str(folder / name) for name in OUTPUTS)),
        voting=voting,
        policy=policy,
        cleaning=cleaning or [],
        augmentation=AUGMENTATION._replace(**changed),
        beam_options=beam_options,
    )
    assert sorted(os.listdir(folder)) == sorted(OUTPUTS)
    return Curated(folder, counts)


@pytest.fixture(scope="module")
def curated(inputs: Inputs, tmp_path_factory: pytest.TempPathFactory) -> Curated:
    return curate(inputs, tmp_path_factory.mktemp("curated"))


def test_workers_elsewhere_write_the_same_version(
    elsewhere: list[str], inputs: Inputs, curated: Curated, tmp_path: Path
) -> None:
    again = curate(inputs, tmp_path / "curated", beam_options=elsewhere)
    assert again.counts == curated.counts
    assert contents(again.folder / "data") == contents(curated.folder / "data")
    assert contents(tmp_path / "shared") == {}, "what the workers left is removed"


def source_bytes(inputs: Inputs, filename: str) -> bytes:
    split, _, rest = filename.partition("/")
    return (inputs.data.test / rest if split == "test" else inputs.data.data / filename).read_bytes()


def encoded(inputs: Inputs) -> dict[str, bytes]:
    return {example.filename: example.encoded for _, example in read_all(inputs.examples)}


# --- what becomes of each image ----------------------------------------------------------------


def test_changes_say_what_became_of_each_image(inputs: Inputs, curated: Curated) -> None:
    changes = curated.changes
    assert list(next(iter(changes.values()))) == list(Change._fields)
    labels = {example.filename: example.class_name for _, example in read_all(inputs.examples)}
    assert changes.keys() == labels.keys() - {LEFT}
    for filename, row in changes.items():
        assert row["sha256"] == hashlib.sha256(source_bytes(inputs, filename)).hexdigest()
        assert row["label"] == labels[filename]
        expected = POLICYS.get(filename, ("kept", "", row["label"]))
        assert (row["action"], row["decided_by"], row["new_label"]) == expected
        assert row["new_filename"] in curated.manifest or expected[0] == "dropped"
    assert changes["train/v/00.png"]["why"] == "It looks like <i>."
    assert curated.counts == {
        "relabelled": 1,
        "dropped": 4,
        "moved": 0,
        "augmented": 75 - len(changes) + 4 + 6,
        "train_images": 75 - 13,
        "val_images": 13,
    }


def test_images_that_stay_are_the_same_bytes_under_their_names(inputs: Inputs, curated: Curated) -> None:
    kept = {filename for filename, row in curated.changes.items() if row["action"] == "kept"}
    converted = {"train/x/07.bmp": "train/x/07.png"}
    for filename in kept:
        new = converted.get(filename, filename)
        expected = encoded(inputs)[filename] if filename in converted else source_bytes(inputs, filename)
        assert curated.images[new] == expected
        assert curated.changes[filename]["new_filename"] == new
        row = curated.manifest[new]
        assert (row.source_filename, row.operations, row.seed) == (filename, [], None)
    assert len(kept) == 3 * (8 + 4 + 2) + 5 - len(POLICYS)


def test_relabelled_image_goes_to_its_class_beside_the_one_of_its_name(inputs: Inputs, curated: Curated) -> None:
    new = curated.changes["train/v/00.png"]["new_filename"]
    sha256 = curated.changes["train/v/00.png"]["sha256"]
    assert new == f"train/i/00.{sha256[:8]}.png"
    assert curated.images[new] == source_bytes(inputs, "train/v/00.png")
    assert curated.images["train/i/00.png"] == source_bytes(inputs, "train/i/00.png")
    assert curated.manifest[new].label == "i"


def test_image_that_stays_keeps_its_name_whichever_comes_first(inputs: Inputs, tmp_path: Path) -> None:
    path = write_decisions(tmp_path / "decisions.csv", inputs, {"train/i/05.png": ("relabel", "v")})
    found = curate(inputs, tmp_path / "outputs", path)
    assert found.images["train/v/05.png"] == source_bytes(inputs, "train/v/05.png")
    assert found.images[found.changes["train/i/05.png"]["new_filename"]] == source_bytes(inputs, "train/i/05.png")
    assert "train/i/05.png" not in found.images


def test_people_decide_before_the_policy(inputs: Inputs, tmp_path: Path) -> None:
    decisions = {
        "train/v/00.png": ("keep", ""),
        "train/x/01.png": ("relabel", "v"),
        "val/x/02.png": ("drop", ""),
        "val/x/03.png": ("relabel", "i"),
        "train/i/copy.png": ("keep", ""),
        "train/i/00.png": ("skip", ""),
    }
    path = write_decisions(tmp_path / "decisions.csv", inputs, decisions)
    found = curate(inputs, tmp_path / "outputs", path).changes
    said = {filename: (row["action"], row["new_label"]) for filename, row in found.items()}
    by_people = {filename for filename, row in found.items() if row["decided_by"] == "person"}
    assert said["train/v/00.png"] == ("kept", "v")
    assert said["train/x/01.png"] == ("relabelled", "v")
    assert said["val/x/02.png"] == ("dropped", "")
    assert said["val/x/03.png"] == ("relabelled", "i")
    assert said["train/i/copy.png"] == ("kept", "i")
    assert said["train/i/02.png"] == ("dropped", "")
    assert by_people == decisions.keys() - {"train/i/00.png"}


def test_an_edited_issues_csv_is_accepted(inputs: Inputs, tmp_path: Path) -> None:
    edited = pd.read_csv(inputs.issues, dtype=str, keep_default_na=False)
    edited.loc[edited["filename"] == "train/v/00.png", "decision"] = "drop"
    edited.to_csv(tmp_path / "edited.csv", index=False)
    changes = curate(inputs, tmp_path / "outputs", str(tmp_path / "edited.csv")).changes
    assert (changes["train/v/00.png"]["action"], changes["train/v/00.png"]["decided_by"]) == ("dropped", "person")


def test_decisions_come_from_a_bucket(inputs: Inputs, gcs: Gcs, tmp_path: Path) -> None:
    write_decisions(tmp_path / "decisions.csv", inputs, {"train/v/00.png": ("drop", "")})
    gcs.bucket.blob("a b/decisions.csv").upload_from_filename(str(tmp_path / "decisions.csv"))
    changes = curate(inputs, tmp_path / "outputs", f"{gcs.uri}/a b/decisions.csv").changes
    assert (changes["train/v/00.png"]["action"], changes["train/v/00.png"]["decided_by"]) == ("dropped", "person")


# --- several people ----------------------------------------------------------------------------

REVIEWS = {
    "anna": {
        "train/v/00.png": ("relabel", "i"),
        "train/i/03.png": ("keep", ""),
        "train/i/04.png": ("drop", ""),
        "val/x/01.png": ("keep", ""),
        "train/x/02.png": ("keep", ""),
    },
    "ben": {
        "train/v/00.png": ("keep", ""),
        "train/i/03.png": ("keep", ""),
        "train/i/04.png": ("relabel", "x"),
        "val/x/01.png": ("drop", ""),
        "train/x/01.png": ("keep", ""),
    },
    "cleo": {
        "train/v/00.png": ("keep", ""),
        "train/i/03.png": ("keep", ""),
        "train/i/04.png": ("skip", ""),
        "val/x/01.png": ("drop", ""),
    },
}
AGREED = {
    "train/i/03.png": ("kept", "person", "i", "Decided by anna, ben, cleo."),
    "train/x/01.png": ("kept", "person", "x", "Decided by ben."),  # and the policy would drop it
    "train/x/02.png": ("kept", "person", "x", "Decided by anna."),
}
SAID_OF_V = "anna relabel to i, ben keep, cleo keep."
SAID_OF_I = "anna drop, ben relabel to x."
SAID_OF_X = "anna keep, ben drop, cleo drop."
SETTLED = {
    "majority": {
        "train/v/00.png": ("kept", "person", "v", f"By majority: {SAID_OF_V}"),
        "train/i/04.png": ("kept", "", "i", f"Undecided: {SAID_OF_I}"),
        "val/x/01.png": ("dropped", "person", "", f"By majority: {SAID_OF_X}"),
    },
    "unanimity": {
        "train/v/00.png": ("kept", "", "v", f"Undecided: {SAID_OF_V}"),
        "train/i/04.png": ("kept", "", "i", f"Undecided: {SAID_OF_I}"),
        "val/x/01.png": ("kept", "", "x", f"Undecided: {SAID_OF_X}"),
    },
    "anna": {
        "train/v/00.png": ("relabelled", "person", "i", f"By the word of anna: {SAID_OF_V}"),
        "train/i/04.png": ("dropped", "person", "", f"By the word of anna: {SAID_OF_I}"),
        "val/x/01.png": ("kept", "person", "x", f"By the word of anna: {SAID_OF_X}"),
    },
}
VOTINGS = {
    "majority": VOTING,
    "unanimity": Voting("unanimity", ""),
    "anna": Voting("unanimity", "anna"),
}


@pytest.fixture(scope="module")
def reviews(inputs: Inputs, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The files of three people, named after them."""
    folder = tmp_path_factory.mktemp("reviews")
    return [write_decisions(folder / f"decisions-{name}.csv", inputs, decisions) for name, decisions in REVIEWS.items()]


@pytest.mark.parametrize("rule", SETTLED)
def test_what_counts_where_people_disagree(inputs: Inputs, reviews: list[str], tmp_path: Path, rule: str) -> None:
    found = curate(inputs, tmp_path, reviews, voting=VOTINGS[rule], augment_to=0)
    said = {
        filename: (row["action"], row["decided_by"], row["new_label"], row["why"])
        for filename, row in found.changes.items()
    }
    expected = AGREED | SETTLED[rule]
    assert {filename: said[filename] for filename in expected} == expected
    undecided = sorted(filename for filename, row in expected.items() if row[3].startswith("Undecided"))
    assert (found.counts["disagreements"], found.counts["undecided"]) == (3, len(undecided))
    page = (found.folder / "disputed").read_text()
    rows = read_page(page)["rows"] if page else []
    assert [row["filename"] for row in rows] == undecided
    for row in rows:
        who = [(name, row_of[row["filename"]]) for name, row_of in REVIEWS.items() if row["filename"] in row_of]
        assert row["decided"] == [
            [name, f"relabel to {label}" if label else word] for name, (word, label) in who if word != "skip"
        ]


def read_page(page: str) -> dict[str, Any]:
    """What the script reads: the page, and its rows."""
    blocks = [json.loads(text) for text in re.findall(r'class="rows">(.*?)</script>', page)]
    rows = [row for block in blocks for row in block]
    return {**json.loads(page.partition('id="data">')[2].partition("</script>")[0]), "rows": rows}


def test_the_page_of_disputed_images_keeps_what_was_settled(inputs: Inputs, reviews: list[str], tmp_path: Path) -> None:
    settled = write_decisions(tmp_path / "decisions-settled.csv", inputs, {"train/v/00.png": ("relabel", "x")})
    found = curate(inputs, tmp_path / "outputs", [*reviews, settled], augment_to=0)
    page = read_page((found.folder / "disputed").read_text())
    assert "train/v/00.png" not in [row["filename"] for row in page["rows"]]
    assert [(row["filename"], row["decision"], row["new_label"]) for row in page["settled"]] == [
        ("train/v/00.png", "relabel", "x")
    ]


def test_who_has_seen_what_others_say_has_the_last_word(inputs: Inputs, reviews: list[str], tmp_path: Path) -> None:
    last = {"train/v/00.png": ("relabel", "x"), "train/i/04.png": ("keep", "")}
    settled = write_decisions(tmp_path / "decisions-settled.csv", inputs, last)
    found = curate(inputs, tmp_path / "outputs", [*reviews, settled], voting=VOTINGS["anna"], augment_to=0)
    said = {filename: (row["action"], row["new_label"]) for filename, row in found.changes.items()}
    assert said["train/v/00.png"] == ("relabelled", "x")
    assert said["train/i/04.png"] == ("kept", "i")
    assert said["val/x/01.png"] == ("kept", "x")
    assert (found.folder / "disputed").read_bytes() == b""
    words = " ".join(Page(found.folder / "report").text.split())
    assert "reviewer images kept relabelled dropped agreement quality anna 5" in words
    assert "settled 2" not in words, "who has seen the others' decisions is no witness of agreement"


def test_report_shows_the_disagreements_and_how_far_people_agree(
    inputs: Inputs, reviews: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = curate(inputs, tmp_path, reviews, augment_to=0)
    left = "Images that people leave undecided because they disagree: 1; the page disputed asks again."
    assert f"curate: {left}\n" in capsys.readouterr().out
    page = Page(tmp_path / "report")
    page.check_self_contained()
    shown = page.values("alt")
    words = " ".join(page.text.split())
    assert left in words
    assert shown[:3] == ["train/i/04.png", "train/v/00.png", "val/x/01.png"], "what is undecided comes first"
    assert "given i anna: drop ben: relabel to x Undecided cleanlab: " in words
    assert "given v anna: relabel to i ben: keep cleo: keep keep By majority cleanlab: v " in words
    # anna and ben agree on one of four images, anna and cleo on one of three, ben and cleo on three of three
    assert re.search(r"anna 5 3 1 1 0\.29 0\.\d\d ben 5 3 1 1 0\.57 0\.\d\d cleo 3 2 0 1 0\.67 0\.\d\d", words)
    assert "anna, ben 4 0.25" in words
    assert "anna, cleo 3 0.33" in words
    assert "ben, cleo 3 1.00 1.00" in words
    # Of three images the raters agree on 1/3, 1 and 1/3 of the pairs; the classes have 4, 2, 1 and 2 of 9 votes.
    agreed, expected = 5 / 9, (4**2 + 2**2 + 1**2 + 2**2) / 81
    assert f"on the 3 images that each decided about: {(agreed - expected) / (1 - expected):.2f}" in words
    assert found.counts["undecided"] == 1


def test_one_person_alone_makes_no_vote(inputs: Inputs, reviews: list[str], tmp_path: Path) -> None:
    found = curate(inputs, tmp_path, reviews[0], voting=Voting("unanimity", "ben"), augment_to=0)
    said = {filename: (row["action"], row["new_label"], row["why"]) for filename, row in found.changes.items()}
    assert said["train/v/00.png"] == ("relabelled", "i", "")
    assert said["train/i/04.png"] == ("dropped", "", "")
    assert "undecided" not in found.counts
    assert (tmp_path / "disputed").read_bytes() == b""
    assert "Reviewers" not in (tmp_path / "report").read_text()


def test_people_without_an_image_in_common_do_not_disagree(inputs: Inputs, tmp_path: Path) -> None:
    files = [
        write_decisions(tmp_path / f"{name}.csv", inputs, {filename: ("drop", "")})
        for name, filename in (("anna", "train/v/02.png"), ("ben", "train/i/05.png"), ("cleo", "train/x/03.png"))
    ]
    empty = write_decisions(tmp_path / "dora.csv", inputs, {})
    found = curate(inputs, tmp_path / "outputs", [*files, empty], augment_to=0)
    assert [found.changes[name]["action"] for name in ("train/v/02.png", "train/i/05.png")] == ["dropped"] * 2
    words = " ".join(Page(tmp_path / "outputs" / "report").text.split())
    assert "anna 1 0 0 1 – – ben 1 0 0 1 – – cleo 1 0 0 1 – –" in words
    assert "No two decided about the same image, so nothing says how far they agree." in words
    assert "on the 0 images that each decided about: –" in words


def test_names_of_people_are_only_text(inputs: Inputs, tmp_path: Path) -> None:
    evil = "<b onclick=alert(1)>"
    files = [
        write_decisions(tmp_path / f"decisions-{name}.csv", inputs, {"train/v/02.png": (word, "")})
        for name, word in ((evil, "keep"), ("ben", "drop"))
    ]
    folder = curate(inputs, tmp_path / "outputs", files, augment_to=0).folder
    assert f"{evil}: keep" in Page(folder / "report").text
    for page in ("report", "disputed"):
        assert "<b onclick" not in (folder / page).read_text()


def write_tasks(path: Path, inputs: Inputs, decisions: dict[int, dict[str, tuple[str, str]]]) -> str:
    """What Label Studio exports if its annotators, who have numbers, decide so: (decision, new label) by file name."""
    known = {row["filename"]: row for row in rows(inputs.issues)}
    tasks = [
        {
            "id": number,
            "data": {"sha256": known[filename]["sha256"], "filename": filename},
            "annotations": [
                {
                    "completed_by": annotator,
                    "was_cancelled": given[filename][0] == "skip",
                    "result": [make_choice(choose_label(*given[filename], label=known[filename]["label"]))],
                }
                for annotator, given in decisions.items()
                if filename in given
            ],
        }
        for number, filename in enumerate(sorted({name for given in decisions.values() for name in given}), 1)
    ]
    path.write_text(json.dumps(tasks), encoding="utf-8")
    return str(path)


def choose_label(decision: str, new_label: str, label: str) -> str:
    return "drop" if decision == "drop" else new_label or label


def test_who_decides_again_does_not_disagree_with_what_was_decided_earlier(inputs: Inputs, tmp_path: Path) -> None:
    """Kept in one turn and dropped on the page of the next, by a person who may be the deciding one of the first."""
    earlier = {"train/v/00.png": ("keep", ""), "val/x/01.png": ("keep", ""), "train/x/01.png": ("keep", "")}
    anew = {"train/v/00.png": ("relabel", "i"), "val/x/01.png": ("drop", "")}
    files = [
        write_decisions(tmp_path / "decisions-earlier.csv", inputs, earlier),
        write_decisions(tmp_path / "decisions.csv", inputs, anew),
    ]
    found = curate(inputs, tmp_path / "outputs", files, voting=Voting("majority", "anna"), augment_to=0)
    decided = [(name, row["action"], row["decided_by"]) for name, row in found.changes.items() if row["why"]]
    assert [each for each in decided if each[0] in earlier] == [
        ("train/v/00.png", "relabelled", "person"),
        ("train/x/01.png", "kept", "person"),
        ("val/x/01.png", "dropped", "person"),
    ]
    assert (found.counts["disagreements"], found.counts["undecided"]) == (0, 0)


def test_annotators_of_label_studio_vote_as_people_with_files_of_their_own_do(inputs: Inputs, tmp_path: Path) -> None:
    anna, ben, cleo = REVIEWS.values()
    exported = write_tasks(tmp_path / "decisions-team.json", inputs, {3: ben, 12: cleo})
    own = write_decisions(tmp_path / "decisions-anna.csv", inputs, anna)
    files = [exported, own]
    found = curate(inputs, tmp_path / "outputs", files, voting=Voting("majority", ""), augment_to=0)
    said = {filename: found.changes[filename] for filename in SETTLED["majority"]}
    names = {"ben": "team-3", "cleo": "team-12"}
    for filename, (action, decided_by, new_label, why) in SETTLED["majority"].items():
        row = said[filename]
        assert (row["action"], row["decided_by"], row["new_label"]) == (action, decided_by, new_label)
        words = {names.get(name, name): decision for name, decision in re.findall(r"(anna|ben|cleo) ([^,.]*)", why)}
        assert dict(re.findall(r"(anna|team-3|team-12) ([^,.]*)", row["why"])) == words
    found = curate(inputs, tmp_path / "again", files, voting=Voting("unanimity", "team-3"), augment_to=0)
    assert found.changes["train/i/04.png"]["why"].startswith("By the word of team-3: ")
    message = "the deciding_reviewer 'team' does not exist. .*There are: anna, team-12, team-3."
    check_refused(message, inputs, tmp_path / "third", files, voting=Voting("majority", "team"))
    other = write_decisions(tmp_path / "team-3.csv", inputs, ben)
    said_of = check_refused(
        "has decisions of team-3, whom another file is named after", inputs, tmp_path, [*files, other]
    )
    assert said_of.startswith(other)


def test_each_of_several_files_is_checked(inputs: Inputs, reviews: list[str], tmp_path: Path) -> None:
    broken = write_decisions(tmp_path / "decisions-dora.csv", inputs, {"train/v/00.png": ("relabel", "xx")})
    said = check_refused("line 2: the class 'xx' is unknown", inputs, tmp_path / "outputs", [*reviews, broken])
    assert said.startswith(broken)
    message = "the deciding_reviewer 'ana' does not exist. Did you mean anna\\? There are: anna, ben, cleo."
    check_refused(message, inputs, tmp_path / "outputs", reviews, voting=Voting("majority", "ana"))
    message = "disagreement is 'coin'; it must be majority or unanimity."
    check_refused(message, inputs, tmp_path / "outputs", reviews, voting=Voting("coin", ""))


def test_guideline_goes_on_to_the_next_version_and_to_the_page_of_disputed_images(
    inputs: Inputs, curated: Curated, reviews: list[str], tmp_path: Path
) -> None:
    examples = Path(shutil.copytree(inputs.examples, tmp_path / "examples"))
    (examples / "labels.md").write_text("# x\n\nTwo strokes that <cross>.\n")
    found = curate(inputs._replace(examples=examples), tmp_path / "outputs", reviews)
    assert (found.data / "labels.md").read_text() == (examples / "labels.md").read_text()
    assert "<p>Two strokes that &lt;cross&gt;.</p>" in (found.folder / "disputed").read_text()
    again = tmp_path / "again"
    ingest(found.data, again)
    assert (again / "labels.md").read_text() == (examples / "labels.md").read_text()
    assert not (curated.data / "labels.md").exists()


# --- augmentation ------------------------------------------------------------------------------


def test_train_is_augmented_up_to_the_number_and_balanced(curated: Curated) -> None:
    per_class: dict[str, Counter[str]] = defaultdict(Counter)
    for filename in curated.images:
        split, name, _ = filename.split("/")
        per_class[split][name] += 1
    assert per_class["train"].total() + per_class["val"].total() == 75
    assert per_class["val"] == {"i": 4, "v": 5, "x": 4}
    assert max(per_class["train"].values()) - min(per_class["train"].values()) <= 3
    assert max(per_class["train"], key=per_class["train"].__getitem__) == "v"  # which val gets wrong


def test_augmented_images_come_of_train_alone(curated: Curated) -> None:
    made = [image for image in curated.manifest.values() if AUGMENTED in image.filename]
    assert len(made) == curated.counts["augmented"] > 20
    for image in made:
        source = curated.changes[image.source_filename]
        assert source["new_filename"].startswith("train/")
        assert image.filename.startswith(f"train/{source['new_label']}/")
        assert image.seed == 1
        assert len(image.filename.rpartition("/")[2].encode()) <= 255
    assert LEFT not in {image.source_filename for image in made}
    assert len({json.dumps(image.operations) for image in made}) == len(made)
    copies = Counter(image.source_filename for image in made)
    v = [filename for filename, row in curated.changes.items() if row["new_filename"].startswith("train/v/")]
    assert max(copies[filename] for filename in v) - min(copies[filename] for filename in v) <= 1


def test_manifest_tells_how_to_make_each_image_again(inputs: Inputs, tmp_path: Path) -> None:
    found = curate(inputs, tmp_path, cleaning=["median", "crop"])
    assert found.manifest.keys() == found.images.keys()
    sources = encoded(inputs)
    for filename, image in found.manifest.items():
        assert image.sha256 == hashlib.sha256(found.images[filename]).hexdigest()
        assert image.source_sha256 == found.changes[image.source_filename]["sha256"]
        assert image.label == filename.split("/")[1]
        steps = [step["operation"] for step in image.operations][:2]
        assert steps == ([] if filename.startswith("test/") else ["median", "crop"])
        picture = clean(decoded(sources[image.source_filename]), steps)
        again = apply_operations(picture, image.operations[2:])
        np.testing.assert_array_equal(decoded(found.images[filename]), again)


@pytest.mark.parametrize(("content", "operation"), [("auto", "vary"), ("ink", "vary"), ("pictures", "colour")])
def test_pictures_are_augmented_otherwise_than_ink(
    inputs: Inputs, tmp_path: Path, content: str, operation: str
) -> None:
    found = curate(inputs, tmp_path, content=content)
    sources = encoded(inputs)
    made = [image for image in found.manifest.values() if AUGMENTED in image.filename]
    assert len(made) == found.counts["augmented"] > 20
    for image in made:
        assert operation in [step["operation"] for step in image.operations]
        again = apply_operations(decoded(sources[image.source_filename]), image.operations)
        np.testing.assert_array_equal(decoded(found.images[image.filename]), again)


def decoded(content: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_ANYCOLOR)


def test_gray_stays_gray_and_colour_colour(inputs: Inputs, curated: Curated) -> None:
    sources = encoded(inputs)
    shapes = set()
    for filename, image in curated.manifest.items():
        if AUGMENTED in filename:
            source = decoded(sources[image.source_filename])
            assert decoded(curated.images[filename]).shape == source.shape
            shapes.add(source.ndim)
    assert shapes == {2, 3}


def test_nothing_is_augmented_on_request(inputs: Inputs, tmp_path: Path) -> None:
    found = curate(inputs._replace(predictions=tmp_path / "none"), tmp_path, augment_to=0)
    assert found.counts["augmented"] == 0
    assert not any(image.operations for image in found.manifest.values())
    assert len(found.manifest) == len(found.changes) - found.counts["dropped"]


def test_an_audit_that_doubts_nothing_changes_nothing(tiny: Folders, inputs: Inputs, tmp_path: Path) -> None:
    examples = tmp_path / "examples"
    ingest(tiny.data, examples, test_data=str(tiny.test))
    audit(examples, tmp_path / "issues", {})
    own = Inputs(tiny, examples, tmp_path / "issues", inputs.predictions)
    curated = curate(own, tmp_path / "curated", augment_to=0)
    expected = contents(tiny.data) | {f"test/{name}": content for name, content in contents(tiny.test).items()}
    assert curated.images == {name: content for name, content in expected.items() if content is not None}
    assert {row["action"] for row in curated.changes.values()} == {"kept"}


def test_same_inputs_and_seed_give_the_same_bytes_whatever_the_cores(
    inputs: Inputs, curated: Curated, tmp_path: Path
) -> None:
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        again = curate(inputs, tmp_path / "again")
    finally:
        os.sched_setaffinity(0, cores)
    assert contents(again.folder) == contents(curated.folder)


def test_another_seed_augments_otherwise_and_leaves_the_rest(inputs: Inputs, curated: Curated, tmp_path: Path) -> None:
    other = curate(inputs, tmp_path, seed=2)
    assert other.images.keys() == curated.images.keys()
    assert other.changes == curated.changes
    for filename, content in other.images.items():
        assert (content == curated.images[filename]) == (AUGMENTED not in filename)


def test_next_turn_makes_the_augmented_images_again(inputs: Inputs, curated: Curated, tmp_path: Path) -> None:
    """Ingest takes the folder as it is, and curation finds the same originals in it."""
    examples = tmp_path / "examples"
    splits = ingest(curated.data, examples).splits
    assert splits["train"].images + splits["val"].images == 75
    assert splits["test"].images == 6
    audit(examples, tmp_path / "issues", {})
    predict(examples, tmp_path / "predictions", {})
    originals = {example.filename for _, example in read_all(examples) if AUGMENTED not in example.filename}
    next_inputs = Inputs(inputs.data, examples, tmp_path / "issues", tmp_path / "predictions")
    second = curate(next_inputs, tmp_path / "outputs", policy=Policy([], 2, 2, 2, "keep"))
    assert second.changes.keys() == originals
    assert {row["action"] for row in second.changes.values()} == {"kept"}


# --- val images that move to train -------------------------------------------------------------


def test_a_share_of_val_moves_and_stays_there_in_the_next_turn(
    inputs: Inputs,
    curated: Curated,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for module in ("moving", "curation"):
        monkeypatch.setattr(f"components.curate.{module}.LEAST_OF_CLASS", 1)
    found = curate(inputs, tmp_path / "first", policy=POLICY._replace(val_to_train=0.5))
    moved = {name: row for name, row in found.changes.items() if row["action"] == "moved"}
    assert 2 < len(moved) < 11
    assert "val/v/twin.png" not in moved, "train has the same picture"
    of_val = [name for name in found.changes if name.startswith("val/")]
    dropped = found.changes["val/x/01.png"]  # it was chosen, too
    assert (dropped["action"], dropped["decided_by"]) == ("dropped", "policy")
    assert (found.counts["moved"], found.counts["val_images"]) == (len(moved), len(of_val) - len(moved) - 1)
    assert found.counts["train_images"] + found.counts["val_images"] == 75
    for name, row in moved.items():
        assert (row["decided_by"], row["label"]) == ("split", row["new_label"])
        assert row["why"] == "It is of the share of val that moves to train, 0.5."
        assert row["new_filename"].startswith(f"train/{row['label']}/")
        assert found.images[row["new_filename"]] == source_bytes(inputs, name)
        assert found.manifest[row["new_filename"]].source_filename == name
    sources = {image.source_filename for image in found.manifest.values() if image.seed is not None}
    assert moved.keys() <= sources, "they are augmented as images of train"
    said = f"Images that move to train: {len(moved)} of the {len(of_val)} of val."
    why = (
        " At least 1 of each class, or all there are, are left there by the move, before images are dropped; so are"
        " those with a near duplicate, or with a copy in train or test."
    )
    assert f"curate: {said}{why}\n" in capsys.readouterr().out
    page = Page(found.folder / "report")
    assert said in " ".join(page.text.split())
    assert f"{len(moved)} moved {len(moved)} to train" in " ".join(page.text.split())

    examples = tmp_path / "examples"
    ingest(found.data, examples)
    audit(examples, tmp_path / "issues", {})
    predict(examples, tmp_path / "predictions", {})
    next_inputs = Inputs(inputs.data, examples, tmp_path / "issues", tmp_path / "predictions")
    second = curate(next_inputs, tmp_path / "second")
    assert second.counts["moved"] == 0
    assert {name for name in second.images if not is_augmented(name)} == {
        name for name in found.images if not is_augmented(name)
    }
    assert "that move to train" not in Page(second.folder / "report").text


def test_what_moves_is_augmented_beside_the_images_of_train(
    inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("components.curate.moving.LEAST_OF_CLASS", 1)
    policy = Policy([], 2.0, 2.0, 2.0, "keep")
    of_train = sum(name.startswith("train/") for name in curate(inputs, tmp_path / "none", policy=policy).changes)
    for share in (0.0, 0.5):
        found = curate(
            inputs,
            tmp_path / f"{share}",
            policy=policy._replace(val_to_train=share),
            augment_to=-1,
            augment_times=3.0,
        )
        assert found.counts["train_images"] == 3 * (of_train + found.counts["moved"])


# --- cleaning ----------------------------------------------------------------------------------


def test_test_is_never_cleaned(inputs: Inputs, tmp_path: Path) -> None:
    found = curate(inputs, tmp_path, cleaning=["threshold"], augment_to=0)
    for filename, content in found.images.items():
        if filename.startswith("test/"):
            assert content == source_bytes(inputs, filename)
        else:
            assert filename.endswith(".png")
            assert set(np.unique(decoded(content))) <= {0, 255}
    assert "train/x/06.jpg" not in found.images
    assert found.changes["train/x/06.jpg"]["new_filename"].startswith("train/x/06.")


# --- mistakes of the user ----------------------------------------------------------------------


def check_refused(message: str, inputs: Inputs, folder: Path, *arguments: Any, **changed: Any) -> str:
    folder.mkdir(exist_ok=True)
    before = contents(folder)
    with pytest.raises(UserError, match=message) as caught:
        curate(inputs, folder, *arguments, **changed)
    assert contents(folder) == before
    assert str(caught.value).count("\n") == 0
    return str(caught.value)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"sha256": "0" * 64}, "line 2: 'train/i/00.png' is not one of these examples; audit them again"),
        ({"filename": "train/i/none.png"}, "line 2: 'train/i/none.png' is not one of these examples"),
        ({"label": "x"}, "line 2: 'train/i/00.png' is not one of these examples"),
        ({"filename": "test/i/00.png"}, "line 2: 'test/i/00.png' is not one of these examples"),
        ({"action": "burn"}, "line 2: action: is the unknown 'burn'"),
        ({"action": "relabel", "new_label": "xx"}, "line 2: has the unknown class 'xx'"),
        ({"confidence": "high"}, "line 2: confidence: is 'high', but should be a valid number"),
        ({"confidence": "nan"}, "line 2: confidence: is 'nan', but should be less than or equal to 1"),
        ({"confidence": "1.5"}, "line 2: confidence: is '1.5', but should be less than or equal to 1"),
    ],
)
def test_issues_that_do_not_fit_are_refused(
    changed: dict[str, str], message: str, inputs: Inputs, tmp_path: Path
) -> None:
    table = pd.read_csv(inputs.issues, dtype=str, keep_default_na=False)
    for name, value in changed.items():
        table.loc[0, name] = value
    table.to_csv(tmp_path / "issues", index=False)
    said = check_refused(message, inputs._replace(issues=tmp_path / "issues"), tmp_path / "outputs")
    assert str(tmp_path / "issues") in said


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (set_text("image/encoded", b"no picture"), "val/.*: cannot be decoded; rerun ingest on the data"),
        (set_text("image/class/text", b"../../../escaped"), "is '../../../escaped', which is no name of a class"),
        (set_text("image/filename", b"val/../../../escaped.png"), "which is not a file in val/"),
    ],
)
def test_images_that_were_edited_are_refused(
    edit: Callable[[Any], None], message: str, inputs: Inputs, tmp_path: Path
) -> None:
    folder = shutil.copytree(inputs.examples, tmp_path / "examples")
    edit_record(folder, edit)
    check_refused(message, inputs._replace(examples=folder), tmp_path / "outputs")


def test_issues_of_some_images_are_refused(inputs: Inputs, tmp_path: Path) -> None:
    table = pd.read_csv(inputs.issues, dtype=str, keep_default_na=False)
    changed = inputs._replace(issues=tmp_path / "issues")
    table[2:].to_csv(changed.issues, index=False)
    check_refused(
        f"no row for 2 of {len(table)} images, for example train/i/00.png; audit these examples again",
        changed,
        tmp_path / "outputs",
    )
    pd.concat([table, table[:1]]).to_csv(changed.issues, index=False)
    message = f"line {len(table) + 2}: 'train/i/00.png' appears twice; audit these examples again"
    check_refused(message, changed, tmp_path / "outputs")
    table.drop(columns="group").to_csv(changed.issues, index=False)
    check_refused("no column group; give issues.csv as audit writes it", changed, tmp_path / "outputs")
    changed.issues.write_bytes(b"\xff\xfe\0")
    check_refused("line 1: UTF-16, not UTF-8", changed, tmp_path / "outputs")
    changed.issues.unlink()
    check_refused("cannot be read", changed, tmp_path / "outputs")


def test_broken_decisions_are_refused(inputs: Inputs, gcs: Gcs, tmp_path: Path) -> None:
    path = write_decisions(tmp_path / "decisions.csv", inputs, {"train/v/00.png": ("relabel", "xx")})
    sentence = ", line 2: the class 'xx' is unknown"
    assert check_refused(sentence, inputs, tmp_path / "outputs", path).startswith(path)
    uri = f"{gcs.uri}/decisions.csv"
    check_refused("not found in Cloud Storage", inputs, tmp_path / "outputs", uri)
    gcs.bucket.blob("decisions.csv").upload_from_filename(path)
    assert check_refused(sentence, inputs, tmp_path / "outputs", uri).startswith(uri)
    check_refused("names no object; write gs://", inputs, tmp_path / "outputs", gcs.uri)
    check_refused("cannot be read", inputs, tmp_path / "outputs", str(tmp_path / "none.csv"))


def test_predictions_of_other_images_are_refused(inputs: Inputs, tmp_path: Path) -> None:
    table = pd.read_csv(inputs.predictions)
    table[table["filename"] != "val/i/00.png"].to_csv(tmp_path / "predictions", index=False)
    changed = inputs._replace(predictions=tmp_path / "predictions")
    check_refused("not predictions of the val images of these examples", changed, tmp_path / "outputs")


def test_more_images_than_allowed_are_refused(inputs: Inputs, tmp_path: Path) -> None:
    message = "curation leaves 37 images in train and val, but max_images allows 30; drop 7"
    check_refused(message, inputs, tmp_path / "outputs", max_images=30, augment_to=30)


def test_settings_out_of_range_are_refused(inputs: Inputs, tmp_path: Path) -> None:
    check_refused("seed is -1", inputs, tmp_path / "outputs", seed=-1)
    check_refused("duplicates is 'all'", inputs, tmp_path / "outputs", policy=POLICY._replace(duplicates="all"))
    check_refused("cleaning has 'soap'", inputs, tmp_path / "outputs", cleaning=["soap"])
    moving = POLICY._replace(val_to_train=0.5)
    message = "cleaning and val_to_train are given together, but cleaning changes the bytes by which a comparison knows"
    check_refused(message, inputs, tmp_path / "outputs", cleaning=["crop"], policy=moving)
    check_refused("val_to_train is 1", inputs, tmp_path / "outputs", policy=POLICY._replace(val_to_train=1))


def test_a_class_left_without_images_is_named(inputs: Inputs, tmp_path: Path) -> None:
    every_x = {row["filename"]: ("drop", "") for row in rows(inputs.issues) if row["label"] == "x"}
    path = write_decisions(tmp_path / "decisions.csv", inputs, every_x)
    check_refused("curation would leave no image of the class x in", inputs, tmp_path / "outputs", path)


def test_outputs_of_an_earlier_attempt_are_replaced(inputs: Inputs, curated: Curated, tmp_path: Path) -> None:
    (tmp_path / "data" / "train").mkdir(parents=True)
    (tmp_path / "data" / "train" / "old.png").write_bytes(b"old")
    (tmp_path / ".partial.0123456789abcdef.data").mkdir()
    (tmp_path / "changes").write_text("old")
    again = curate(inputs, tmp_path)
    assert contents(again.folder) == contents(curated.folder)


# --- the step and its report -------------------------------------------------------------------


def test_step_gives_the_address_of_the_data_and_the_counts(inputs: Inputs, curated: Curated, tmp_path: Path) -> None:
    from kfp.dsl import HTML, Dataset, Markdown, Metrics

    from components.curate.component import curate as step

    def dataset(path: Path) -> Dataset:
        return Dataset(uri=str(path))

    metrics = Metrics(uri=str(tmp_path / "metrics"))
    step(
        examples=dataset(inputs.examples),
        issues=dataset(inputs.issues),
        predictions=dataset(inputs.predictions),
        decisions_uris={},
        disagreement="majority",
        deciding_reviewer="",
        cleaning=[],
        **{f"policy_{name}" if name == "splits" else name: value for name, value in POLICY._asdict().items()}
        | AUGMENTATION._asdict(),
        beam_options=BEAM,
        data=dataset(tmp_path / "data"),
        data_uri=str(tmp_path / "data_uri"),
        changes=dataset(tmp_path / "changes"),
        disputed=HTML(uri=str(tmp_path / "disputed")),
        metrics=metrics,
        report=HTML(uri=str(tmp_path / "report")),
        summary=Markdown(uri=str(tmp_path / "summary")),
    )
    assert (tmp_path / "data_uri").read_text() == str(tmp_path / "data")
    assert contents(tmp_path / "data") == contents(curated.data)
    assert metrics.metadata == {"display_name": "curate: metrics", **curated.counts}
    summary = (tmp_path / "summary").read_text(encoding="utf-8")
    assert f"- augmented: {curated.counts['augmented']:,}\n" in summary


def test_report_shows_counts_changes_and_augmented_images(curated: Curated) -> None:
    page = Page(curated.folder / "report")
    page.check_self_contained()
    shown = page.values("alt")
    assert set(POLICYS) <= set(shown)
    for name in CLASSES:
        assert any(filename.startswith(f"train/{name}/") and AUGMENTED in filename for filename in shown)
    words = " ".join(page.text.split())
    assert (
        "More were made where the model was more often wrong on val ( hard_weight ), so val, too, has shaped" in words
    )
    left = "Doubted images that stay as they are until a person decides on the review page: 1 of train and 1 of val."
    assert left in words
    train = [filename for filename in curated.images if filename.startswith("train/x/")]
    made = sum(AUGMENTED in filename for filename in train)
    assert f"x 10 9 {made} {len(train)} 4 4 2 2" in words
    assert "before.dir" in words
    assert "It looks like <i>." in words
    assert "The same picture is in val: val/v/twin.png." in words
    assert len(page.values("src")) == len(shown)


def test_report_escapes_file_names(inputs: Inputs, tmp_path: Path) -> None:
    path = write_decisions(tmp_path / "decisions.csv", inputs, {f"train/v/{EVIL}": ("drop", "")})
    page = Page(curate(inputs, tmp_path / "outputs", path).folder / "report")
    assert f"train/v/{EVIL}" in page.values("alt")
    assert "<script" not in page.source
