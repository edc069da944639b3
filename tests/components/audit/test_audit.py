"""The audit of a small data set whose faults are known."""

import csv
import io
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from components.audit import judge
from components.audit.audit import audit_examples, warn_of_duplicates, warn_of_unexplained
from components.audit.cross_validation import AuditSettings
from components.audit.judge import Verdict, judge_unseen
from components.audit.ranking import AuditedImage, rank_images
from components.audit.report import write_audit_report
from components.audit.state import NO_INK
from components.shared.duplicates import Duplicates
from components.shared.errors import UserError
from components.shared.formats.examples import AUGMENTED, CopyOrder, ExampleSet, ExamplesManifest, open_examples
from components.shared.formats.issues import Issue, read_issues
from components.shared.formats.manifest import write_manifest
from tests.conftest import BEAM, ROOT, contents, ingest_folder
from tests.pages import Page
from tests.rows import make_augmented, make_issue
from tests.shards import edit_record, set_text

CLASSES = ["i", "v", "x"]
OUTPUTS = {"issues_output": "issues.csv", "review_output": "review.html", "report_output": "report.html"}
SETTINGS = AuditSettings(folds=2, repeats=1, epochs=40, seed=1)
BRIEF = SETTINGS._replace(epochs=1)
FAULTS = {
    "train/v/flipped.png": "x",
    "train/x/flipped.png": "v",
    "train/i/flipped.png": "x",
}


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The examples of drawn numerals: three wrong labels, a blank page, a copy, a picture moved on its page."""
    from sample import draw_blank_page, draw_page

    root = tmp_path_factory.mktemp("faulty")
    for split, count in {"train": 22, "val": 8, "test": 1}.items():
        for label in CLASSES:
            folder = root / "data" / split / label
            folder.mkdir(parents=True)
            for number in range(count):
                rng = np.random.default_rng([*split.encode(), CLASSES.index(label), number])
                draw_page(rng, label).save(folder / f"{number:02d}.png")
    for number, (filename, truth) in enumerate(FAULTS.items()):
        draw_page(np.random.default_rng([7, number]), truth).save(root / "data" / filename)
    augmented = f"train/v/00{AUGMENTED}1.png"
    draw_page(np.random.default_rng(8), "x").save(root / "data" / augmented)
    write_manifest(root / "data", [make_augmented(augmented, (root / "data" / augmented).read_bytes())])
    (root / "data/labels.md").write_text("# i\n\nOne *stroke*.\n\n# v\n\nTwo.\n")
    draw_blank_page(0).save(root / "data/train/v/blank.png")
    broken = np.array(draw_page(np.random.default_rng(19), "v").convert("L"))
    broken[np.arange(len(broken)) // 4 % 2 == 0] = 255
    Image.fromarray(broken).save(root / "data/train/v/broken.png")
    shutil.copyfile(root / "data/val/i/00.png", root / "data/train/i/copy.png")
    picture = Image.open(root / "data/train/x/03.png")
    page = Image.new("L", (picture.width + 60, picture.height + 40), 255)
    page.paste(picture, (50, 10))
    page.save(root / "data/train/x/moved.png")
    return ingest_folder(root / "data", root / "examples", classes=CLASSES)


@pytest.fixture(scope="module")
def audit(faulty: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))  # the finished folds are kept below it
        return run_audit(faulty, SETTINGS, tmp_path_factory.mktemp("audit"))


@pytest.fixture(scope="module")
def issues(audit: Path) -> list[dict[str, str]]:
    return read(audit / "issues.csv")


@pytest.fixture(scope="module")
def brief(faulty: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes | None]:
    """What an audit of one epoch writes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
        return contents(run_audit(faulty, BRIEF, tmp_path_factory.mktemp("brief")))


def run_audit(
    examples: Path,
    settings: AuditSettings,
    folder: Path,
    content: str = "auto",
    beam_options: list[str] = BEAM,
    verdicts_uris: list[str] | None = None,
) -> Path:
    sizes = {"review_size": 1000, "gallery_size": 5}
    audit_examples(
        str(examples),
        settings,
        content=content,
        **sizes,
        beam_options=beam_options,
        verdicts_uris=verdicts_uris or [],
        **outputs(folder),
    )
    assert sorted(contents(folder)) == sorted(OUTPUTS.values())
    return folder


def outputs(folder: Path) -> dict[str, str]:
    return {parameter: str(folder / name) for parameter, name in OUTPUTS.items()}


def read(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))


def row(issues: list[dict[str, str]], filename: str) -> dict[str, str]:
    return next(issue for issue in issues if issue["filename"] == filename)


def test_every_image_of_train_and_val_has_one_row(issues: list[dict[str, str]]):
    assert [int(issue["rank"]) for issue in issues] == list(range(1, 3 * 30 + 8))
    assert len({issue["filename"] for issue in issues}) == len(issues)
    assert {issue["filename"].split("/")[0] for issue in issues} == {"train", "val"}
    assert {issue["decision"] + issue["decided_label"] for issue in issues} == {""}


def test_wrong_labels_come_first_with_the_right_one(issues: list[dict[str, str]]):
    for filename, truth in FAULTS.items():
        found = row(issues, filename)
        assert int(found["rank"]) <= 10
        assert "label" in found["kinds"]
        assert (found["prediction"], found["new_label"]) == (truth, truth)
        assert float(found["label_probability"]) < float(found["probability"])


def test_a_blank_page_is_to_be_dropped(issues: list[dict[str, str]]):
    found = row(issues, "train/v/blank.png")
    assert (found["kinds"], found["action"], found["new_label"]) == ("blank", "drop", "")
    assert int(found["rank"]) <= 10


def test_ink_in_many_parts_comes_first_with_their_number(issues: list[dict[str, str]]):
    found = row(issues, "train/v/broken.png")
    assert "fragmented" in found["kinds"].split(";")
    assert int(found["rank"]) <= 10
    parts = re.search(r"Its ink is in about (\d+) parts\.$", found["why"])
    assert parts
    assert int(parts[1]) > 6
    assert [issue["filename"] for issue in issues if "fragmented" in issue["kinds"]] == ["train/v/broken.png"]


@pytest.mark.parametrize(
    ("one", "other", "kind"),
    [
        ("val/i/00.png", "train/i/copy.png", "exact_duplicate"),
        ("train/x/moved.png", "train/x/03.png", "near_duplicate"),  # the larger first,
    ],
)
def test_duplicates_are_one_group(issues: list[dict[str, str]], one: str, other: str, kind: str):
    first, second = row(issues, one), row(issues, other)
    assert first["group"] == second["group"] != ""
    assert [issue["filename"] for issue in issues if issue["group"] == first["group"]] == [one, other]
    assert kind in first["kinds"].split(";")
    assert first["action"] == second["action"] == "keep_one"
    assert other in first["why"]
    assert first["duplicate_score"] == second["duplicate_score"]
    assert (1 if kind == "exact_duplicate" else 0.95) <= float(first["duplicate_score"]) <= 1


def test_of_copies_the_best_comes_first_but_those_of_val_before() -> None:
    orders = {
        "train/i/jpeg.png": CopyOrder(-9, True, -5),
        "train/i/few-bytes.png": CopyOrder(-9, False, -3),
        "val/i/small.png": CopyOrder(-4, True, -1),
        "train/i/many-bytes.png": CopyOrder(-9, False, -4),
    }
    copies = [
        AuditedImage(str(number) * 64, filename, filename.split("/")[0], 0, False, NO_INK, order)
        for number, (filename, order) in enumerate(orders.items())
    ]
    alone = AuditedImage("9" * 64, "train/v/alone.png", "train", 1, False, NO_INK, CopyOrder(0, False, 0))
    distance = np.float32([0.3, 0.1, 0.2, 0.4, 0])
    verdict = Verdict(np.float32([[0.9, 0.1]] * 4 + [[0.1, 0.9]]), distance, distance)
    duplicates = Duplicates(np.array([0, 0, 0, 0, 4]), np.array([1.0, 1, 1, 1, 0]))
    ranked = rank([*copies, alone], verdict, duplicates)
    assert [Path(issue.filename).stem for issue in ranked] == ["small", "many-bytes", "few-bytes", "jpeg", "alone"]


def judge_dark_and_light() -> Verdict:
    """Of dark and light pictures two dark ones are unseen, one of them labelled light."""
    rng = np.random.default_rng(1)
    labels = np.repeat([0, 1, 0, 1], [1, 1, 20, 20])
    tones = np.concatenate([rng.integers(0, 60, 22), rng.integers(200, 255, 20)]).astype(np.uint8)
    views = np.broadcast_to(tones[:, None, None, None, None], (42, 1, 32, 32, 1)).copy()
    return judge_unseen(views, labels, learned=np.arange(2, 42), unseen=np.arange(2), classes=2, epochs=20, seed=1)


def test_a_judge_measures_how_far_an_image_is_from_its_label_and_from_what_it_looks_like() -> None:
    verdict = judge_dark_and_light()
    assert verdict.probabilities.argmax(axis=1).tolist() == [0, 0]
    assert verdict.guess_distance[0] == pytest.approx(verdict.distance[0], abs=1e-3)
    assert verdict.guess_distance[1] < verdict.distance[1]


def test_a_judge_that_sees_part_after_part_says_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = judge_dark_and_light()
    monkeypatch.setattr(judge, "PART", judge.BATCH)
    for values, expected in zip(judge_dark_and_light(), whole, strict=True):
        np.testing.assert_array_equal(values, expected)


def test_no_label_is_suggested_for_what_is_unlike_the_class_that_it_is_taken_for() -> None:
    """Of two images labelled i that are taken for v, one is as near to the other images of v as these are."""
    images = [
        AuditedImage(f"{n:064x}", f"train/i/{n}.png", "train", 0, False, NO_INK, CopyOrder(0, False, 0))
        for n in range(22)
    ]
    probabilities = np.float32([[0.9, 0.1]] * 20 + [[0.05, 0.95]] * 2)
    guess_distance = np.float32([0.1] * 20 + [0.1, 0.5])
    verdict = Verdict(probabilities, np.float32([0.1] * 20 + [0.4, 0.6]), guess_distance)
    duplicates = Duplicates(np.arange(22), np.zeros(22))
    ranked = rank(images, verdict, duplicates)
    found = {issue.filename: (issue.action, issue.new_label) for issue in ranked if issue.action}
    assert found == {"train/i/20.png": ("relabel", "v"), "train/i/21.png": ("look", "")}


def test_whatever_is_suggested_the_parts_of_the_ink_are_told() -> None:
    images = [
        AuditedImage(
            f"{n:064x}", f"train/i/{n}.png", "train", 0, False, NO_INK._replace(parts=parts), CopyOrder(0, False, 0)
        )
        for n, parts in enumerate([1.0] * 19 + [20.0] * 3)
    ]
    probabilities = np.float32([[0.9, 0.1]] * 20 + [[0.05, 0.95], [0.25, 0.75]])
    distance = np.float32([0.1] * 21 + [0.4])
    verdict = Verdict(probabilities, distance, distance)
    ranked = rank(images, verdict, Duplicates(np.arange(22), np.zeros(22)))
    found = {issue.filename: (issue.action, issue.why) for issue in ranked[:3]}
    assert found == {
        "train/i/19.png": ("look", "Its ink is in about 20 parts."),
        "train/i/20.png": ("relabel", "It looks like v, not like i. Its ink is in about 20 parts."),
        "train/i/21.png": (
            "look",
            "It hardly looks like i, and is unlike the images of v, too. Its ink is in about 20 parts.",
        ),
    }


def test_no_class_that_is_not_judged_is_suggested_and_its_images_have_no_probability() -> None:
    images = [
        AuditedImage(
            f"{n:064x}", f"train/{name}/{n}.png", "train", "iv".index(name), False, NO_INK, CopyOrder(0, False, 0)
        )
        for n, name in enumerate("i" * 20 + "v")
    ]
    probabilities = np.float32([[0.9, 0.1]] * 19 + [[0.1, 0.9], [0.3, 0.7]])
    distance = np.float32([*np.linspace(0, 1, 20), np.nan])
    verdict = Verdict(probabilities, distance, np.float32([0.1] * 20 + [np.nan]))
    duplicates = Duplicates(np.arange(21), np.zeros(21))
    found = {issue.filename: issue for issue in rank(images, verdict, duplicates, is_judged=[True, False])}
    doubted, unjudged = found["train/i/19.png"], found["train/v/20.png"]
    assert (doubted.action, doubted.new_label, doubted.prediction, doubted.probability) == ("look", "", "v", 0.9)
    assert (unjudged.prediction, unjudged.probability, unjudged.label_probability) == ("", None, None)


def rank(
    images: list[AuditedImage], verdict: Verdict, duplicates: Duplicates, is_judged: Sequence[bool] = (True, True)
) -> list[Issue]:
    classes = ["i", "v", "x"][: len(is_judged)]
    return rank_images(
        images, verdict, is_judged=np.array(is_judged), duplicates=duplicates, classes=classes, ink=False
    )


def test_images_that_were_not_judged_change_nothing_for_the_others() -> None:
    def rank_beside(unjudged: int) -> dict[str, tuple[str, str]]:
        images = [
            AuditedImage(f"{n:064x}", f"train/i/{n}.png", "train", 0, False, NO_INK, CopyOrder(0, False, 0))
            for n in range(200 + unjudged)
        ]
        probabilities = np.float32([[0.9, 0.1, 0]] * 180 + [[0.1, 0.8, 0.1]] * 10 + [[0.2, 0.35, 0.45]] * 10)
        distance = np.float32(np.linspace(0, 1, 200))
        unknown = np.full(unjudged, np.nan, np.float32)
        verdict = Verdict(
            np.concatenate([probabilities, np.tile(np.float32([0.7, 0.15, 0.15]), (unjudged, 1))]),
            np.concatenate([distance, unknown]),
            np.concatenate([np.full(200, 0.5, np.float32), unknown]),
        )
        duplicates = Duplicates(np.arange(len(images)), np.zeros(len(images)))
        ranked = rank(images, verdict, duplicates, is_judged=[True] * 3)
        return {issue.filename: (issue.action, issue.outlier_score) for issue in ranked if int(issue.sha256, 16) < 200}

    assert rank_beside(2000) == rank_beside(0)
    assert {action for action, _ in rank_beside(0).values()} > {"", "relabel"}


def test_an_image_without_a_duplicate_has_a_duplicate_score_of_0(issues: list[dict[str, str]]):
    alone = [issue for issue in issues if not issue["group"]]
    assert len(alone) == len(issues) - 4
    assert {float(issue["duplicate_score"]) for issue in alone} == {0}


def test_most_good_images_need_nothing(issues: list[dict[str, str]]):
    good = [issue for issue in issues if not issue["kinds"]]
    assert len(good) > 0.7 * len(issues)
    assert {(issue["action"], issue["new_label"], issue["why"]) for issue in good} == {("", "", "")}
    assert int(good[0]["rank"]) == len(issues) - len(good) + 1


def test_images_made_of_others_are_left_out(faulty: Path, issues: list[dict[str, str]]):
    splits = open_examples(faulty).manifest.splits
    assert sum(splits[split].images for split in ("train", "val")) == len(issues) + 1
    assert not [issue for issue in issues if AUGMENTED in issue["filename"]]


def test_report_shows_each_kind_with_its_first_images(audit: Path, issues: list[dict[str, str]]):
    report = (audit / "report.html").read_text()
    kinds = Counter(kind for issue in issues for kind in issue["kinds"].split(";") if kind)
    assert f"No ink, or one plain colour: {kinds['blank']}</h2>" in report
    assert f"Another label fits better: {kinds['label']}</h2>" in report
    gallery = report[report.index("Another label fits better") :].partition("</div>")[0]
    first = [issue for issue in issues if "label" in issue["kinds"].split(";")][:5]
    assert re.findall(r'alt="([^"]+)"', gallery) == [issue["filename"] for issue in first]
    assert ("http://" in report.replace("http://www.w3.org", "")) is False


def test_captions_say_nothing_twice_and_cards_what_they_count(faulty: Path, tmp_path: Path):
    examples = open_examples(faulty)
    name = next(examples.read("train")).filename
    relabel = {"action": "relabel", "new_label": "v", "prediction": "v", "probability": 0.65}
    same, edge = "The same picture is v in val/v/3.png.", "Its ink runs into the left edge."
    rows = [
        {**relabel, "kinds": ("label",), "why": "It looks like v, not like i."},
        {
            **relabel,
            "kinds": ("ambiguous",),
            "action": "look",
            "why": "It looks like v or something else, hardly like i.",
        },
        {**relabel, "kinds": ("conflicting_duplicate",), "action": "look", "why": same},
        {"kinds": ("conflicting_duplicate", "exact_duplicate"), "action": "look", "why": same},
        {"kinds": ("blank",), "action": "drop", "why": "There is no ink."},
        {"kinds": ("outlier",), "action": "look", "why": "It hardly looks like i."},
        {"kinds": ("exact_duplicate",), "action": "keep_one", "why": "It is val/i/3.png again, byte for byte."},
        {**relabel, "kinds": ("cut", "label"), "why": f"It looks like v, not like i. {edge}"},
        {"kinds": ("cut",), "action": "look", "why": edge},
    ]
    issues = [make_issue(filename=name, label="i", **row) for row in rows]
    write_audit_report(str(tmp_path / "report.html"), examples, issues=issues, warnings=[], gallery_size=5)
    text = " ".join(Page(tmp_path / "report.html").text.split()).replace(name, "NAME")
    captions = [
        "Another label fits better: 2 i → v? 65 % NAME i → v? 65 % NAME",
        "No ink, or one plain colour: 1 given i : drop There is no ink. NAME",
        "Ink that runs into the edge of the picture: 2 i → v? 65 % It looks like v, not like i. Its ink runs into the"
        " left edge. NAME given i Its ink runs into the left edge. NAME",
        "No class fits: 1 i, or v? 65 % NAME",
        "Unlike the other images of their label: 1 given i It hardly looks like i. NAME",
        f"The same picture under two labels: 2 i, or v? 65 % {same} NAME given i {same} NAME",
        f"Byte for byte the same: 2 given i {same} NAME given i : keep one of these It is val/i/3.png again, byte for "
        "byte. NAME",
    ]
    assert text.endswith(" ".join(captions))
    assert "2 to relabel" in text
    assert "ink that the edge cuts, or that is crowded, adds to the doubt about the label. Open review" in text
    assert "1 duplicates, else fine Above, each image to look at counts once, by what is suggested;" in text


def test_review_page_holds_the_guideline_and_the_report_names_the_classes_without_a_section(audit: Path):
    review = (audit / "review.html").read_text()
    assert "<h2>i</h2><p>One <em>stroke</em>.</p>" in review
    assert "<h2>x</h2>labels.md has no section on this class." in review
    assert "Warning: labels.md has no section on these classes: x." in (audit / "report.html").read_text()
    assert warn_of_unexplained(None, CLASSES) == []


def test_review_page_holds_what_is_doubted_and_no_more(audit: Path, issues: list[dict[str, str]]):
    review = (audit / "review.html").read_text()
    assert {issue["filename"] for issue in issues if f'"{issue["filename"]}"' in review} == {
        issue["filename"] for issue in issues if issue["kinds"]
    }


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, str]]:
    """The audit of shapes in three colours: three wrong labels, a copy of val in another size, and two empty pages."""
    root = tmp_path_factory.mktemp("shapes")
    rng = np.random.default_rng(5)
    for split, count in {"train": 26, "val": 8}.items():
        for kind, label in enumerate(CLASSES):
            folder = root / "data" / split / label
            folder.mkdir(parents=True)
            for number in range(count):
                draw_shape(rng, kind).save(folder / f"{number:02d}.png")
    for filename, truth in FAULTS.items():
        draw_shape(rng, CLASSES.index(truth)).save(root / "data" / filename)
    original = Image.open(root / "data/val/v/00.png")
    original.resize((90, 90), Image.Resampling.LANCZOS).save(root / "data/train/v/scaled.jpg", quality=85)
    Image.new("RGB", (64, 64), (200, 30, 30)).save(root / "data/train/x/plain.png")
    grain = rng.normal(245, 1.5, (64, 64, 1)).clip(0, 255).astype(np.uint8)
    Image.fromarray(grain.repeat(3, axis=2)).save(root / "data/train/x/scanned.png")
    examples = ingest_folder(root / "data", root / "examples", classes=CLASSES)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
        return read(run_audit(examples, SETTINGS, tmp_path_factory.mktemp("audit of shapes")) / "issues.csv")


def draw_shape(rng: np.random.Generator, kind: int) -> Image.Image:
    """A circle, square or triangle of any size in one of three colours."""
    image = Image.new("RGB", (64, 64), "white")
    draw, radius = ImageDraw.Draw(image), int(rng.integers(9, 22))
    x, y = (int(value) for value in rng.integers(radius + 1, 64 - radius, 2))
    box = (x - radius, y - radius, x + radius, y + radius)
    colour = [(220, 40, 40), (40, 160, 60), (40, 70, 210)][rng.integers(3)]
    if kind == 0:
        draw.ellipse(box, fill=colour)
    elif kind == 1:
        draw.rectangle(box, fill=colour)
    else:
        draw.polygon([(x, y - radius), (x - radius, y + radius), (x + radius, y + radius)], fill=colour)
    return image


def test_wrong_labels_of_shapes_are_in_twice_as_many_rows(shapes: list[dict[str, str]]):
    first = {issue["filename"]: issue["new_label"] for issue in shapes if issue["kinds"] != "blank"}
    assert FAULTS.items() <= dict(list(first.items())[:6]).items()


def test_a_shape_is_only_the_same_as_itself(shapes: list[dict[str, str]]):
    """Shapes of one kind have the same ink, but for its size and colour."""
    alike = [issue for issue in shapes if issue["group"]]
    assert {issue["filename"] for issue in alike} == {"val/v/00.png", "train/v/scaled.jpg"}
    assert row(shapes, "train/v/scaled.jpg")["why"] == "It is val/v/00.png again."
    for name in ("plain", "scanned"):
        empty = row(shapes, f"train/x/{name}.png")
        assert (empty["kinds"], empty["action"], empty["why"]) == ("blank", "drop", "It is of one plain colour.")


@pytest.mark.parametrize(
    ("ink", "advice"), [(True, "audit with content=pictures"), (False, "curate with duplicates=keep")]
)
def test_more_near_duplicates_than_collections_have_are_a_warning(tmp_path: Path, ink: bool, advice: str):
    near = [make_issue(kinds=("near_duplicate",)) for _ in range(26)]
    assert warn_of_duplicates([*near[:25], *[make_issue(kinds=("exact_duplicate",))] * 75], ink=ink) == []
    [warning] = warn_of_duplicates([*near, *[make_issue()] * 74], ink=ink)
    assert warning == (
        "26 of 100 images look like another one saved again or moved, more than collections have, so the measure of"
        " likeness is probably wrong for them; look at the near duplicates, and if they are different pictures,"
        f" {advice}."
    )
    examples = ExampleSet("", ExamplesManifest("", "", "1.dir", CLASSES, splits={}, quarantined=[]))
    write_audit_report(str(tmp_path / "report.html"), examples, issues=[], warnings=[warning], gallery_size=5)
    assert f"Warning: {warning}" in (tmp_path / "report.html").read_text()


def test_labels_of_a_class_with_fewer_images_than_folds_are_believed_and_named(
    faulty: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    from sample import draw_page

    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    data = shutil.copytree(faulty.parent / "data", tmp_path / "data")
    for split, label in (("train", "i"), ("val", "v"), ("test", "i")):  # as far from one class as two images can be
        (data / split / "ii").mkdir()
        draw_page(np.random.default_rng(9), label).save(data / split / "ii/0.png")
    examples = ingest_folder(data, tmp_path / "examples", classes=[*CLASSES, "ii"])
    audit = run_audit(examples, SETTINGS._replace(folds=3), tmp_path / "audit")
    own = [issue for issue in read(audit / "issues.csv") if issue["label"] == "ii"]
    assert [(issue["kinds"], issue["action"], issue["label_probability"]) for issue in own] == [("", "", "")] * 2
    assert {issue["why"] for issue in own} == {"Its class has too few different images to be judged."}
    warning = (
        "These classes have too few different images for their labels to be judged: ii. Look at their images yourself; "
        "issues.csv lists them."
    )
    assert f"audit: {warning}\n" in capfd.readouterr().out
    assert f"Warning: {warning}" in (audit / "report.html").read_text()
    for filename, truth in FAULTS.items():
        assert row(read(audit / "issues.csv"), filename)["new_label"] == truth


def test_an_audit_that_doubts_nothing_says_so(tmp_path: Path):
    examples = ExampleSet("", ExamplesManifest("", "", "1.dir", CLASSES, splits={}, quarantined=[]))
    write_audit_report(str(tmp_path / "report.html"), examples, issues=[], warnings=[], gallery_size=5)
    assert "Nothing is doubted." in (tmp_path / "report.html").read_text()


def test_a_killed_audit_continues_in_the_next_run(
    faulty: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("HOME", str(tmp_path))
    settings = SETTINGS._replace(repeats=2, epochs=2)
    whole = run_audit(faulty, settings, tmp_path / "whole")
    assert "finished before" not in capfd.readouterr().out
    sizes = f"content='auto', review_size=1000, gallery_size=5, beam_options={BEAM}, verdicts_uris=[]"
    call = f"audit_examples({str(faulty)!r}, {settings}, {sizes}, **{outputs(tmp_path / 'killed')})"
    code = f"from components.audit.audit import *; {call}"
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, start_new_session=True)
    while not list_kept_folds(tmp_path):
        assert process.poll() is None
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert all(name.startswith(".partial.") for name in contents(tmp_path / "killed"))
    capfd.readouterr()
    again = run_audit(faulty, settings, tmp_path / "killed")
    assert re.search(r"audit: [12] of 2 folds were finished before", capfd.readouterr().out)
    assert contents(again) == contents(whole)
    assert not list_kept_folds(tmp_path)


def test_workers_elsewhere_read_the_same(
    elsewhere: list[str], faulty: Path, brief: dict[str, bytes | None], tmp_path: Path
):
    assert contents(run_audit(faulty, BRIEF, tmp_path / "audit", beam_options=elsewhere)) == brief
    assert contents(tmp_path / "shared") == {}, "what the workers left is removed"


def test_one_core_gives_the_same(
    faulty: Path, brief: dict[str, bytes | None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        one_core = run_audit(faulty, BRIEF, tmp_path / "one core")
    finally:
        os.sched_setaffinity(0, cores)
    assert contents(one_core) == brief


def list_kept_folds(home: Path) -> list[Path]:
    return list((home / ".cache/data-centric-pipeline/audit").rglob("*.verdict"))


@pytest.mark.parametrize("home", ["a file", "none"])
def test_an_audit_needs_no_home(
    home: str, faulty: Path, brief: dict[str, bytes | None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """It only keeps finished folds there."""
    (tmp_path / "file").touch()
    if home == "none":
        monkeypatch.delenv("HOME")
        monkeypatch.setattr(os, "getuid", lambda: 2**31 - 2)  # a user who is not in /etc/passwd
    else:
        monkeypatch.setenv("HOME", str(tmp_path / "file"))
    assert contents(run_audit(faulty, BRIEF, tmp_path / "homeless")) == brief


def test_the_review_page_says_how_many_doubted_images_it_leaves_out(
    faulty: Path, brief: dict[str, bytes | None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HOME", str(tmp_path))
    sizes: dict[str, Any] = {"content": "auto", "review_size": 2, "gallery_size": 5}
    sizes |= {"beam_options": BEAM, "verdicts_uris": []}
    audit_examples(str(faulty), BRIEF, **sizes, **outputs(tmp_path))
    assert (tmp_path / "issues.csv").read_bytes() == brief["issues.csv"]
    doubted = sum(bool(issue.kinds) for _, issue in read_issues(tmp_path / "issues.csv"))
    said = f"Here are the 2 images that are doubted most, of {doubted}; issues.csv lists all."
    page = (tmp_path / "review.html").read_text()
    assert f"{said} To see more of them here, audit with a review_size of up to 50,000." in page
    assert len(re.findall('"sha256": "[0-9a-f]{64}"', page)) == 2
    said = r"^review_size is 50001; it must be 50000 or less, and issues\.csv lists all images\.$"
    with pytest.raises(UserError, match=said):
        audit_examples(str(faulty), BRIEF, **{**sizes, "review_size": 50_001}, **outputs(tmp_path / "none"))


def test_a_picture_that_cannot_be_decoded_is_named(faulty: Path, tmp_path: Path):
    folder = shutil.copytree(faulty, tmp_path / "examples")
    edit_record(folder, set_text("image/encoded", b"no picture"))
    with pytest.raises(UserError, match=r"^val/\w/\d\d.png: cannot be decoded; rerun ingest on the data.$"):
        run_audit(folder, BRIEF, tmp_path / "audit")
    assert os.listdir(tmp_path / "audit") == []


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ({"folds": 1}, "folds is 1; it must be 2 or more."),
        ({"repeats": 0}, "repeats is 0; it must be 1 or more."),
        ({"epochs": 0}, "epochs is 0; it must be 1 or more."),
        ({"seed": -1}, "seed is -1; it must be from 0 to 2147483647."),
        ({"folds": 40}, "no class has more than 33 different images in train and val, fewer than the 40 folds"),
    ],
)
def test_a_wrong_setting_is_named_and_nothing_written(
    faulty: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, setting: dict[str, int], sentence: str
):
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(UserError, match=sentence):
        run_audit(faulty, SETTINGS._replace(**setting), tmp_path / "audit")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
