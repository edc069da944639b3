"""review.html in a real browser, used as a person uses it: by keyboard, and by touch on a phone."""

import base64
import csv
import hashlib
import io
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from components.shared.formats import decisions as columns
from components.shared.formats.decisions import read_decisions
from components.shared.formats.guideline import read_guideline
from components.shared.formats.issues import Issue, write_issues
from components.shared.formats.tables import write_rows
from components.shared.review import MOST, PICTURE, SMALL_PICTURE, write_review
from components.shared.thumbnails import draw_thumbnail
from sample import draw_page
from tests.conftest import ROOT

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed; it drives the browser")
Page, expect = playwright.Page, playwright.expect

CHROMIUM = next(filter(None, map(shutil.which, ["chromium", "chromium-browser", "google-chrome"])), None)
pytestmark = pytest.mark.skipif(not CHROMIUM, reason="no Chromium is installed; on Debian: apt-get install chromium")
CLASSES = ["i", "ii", "iii", "iv", "v"]
PATIENCE = 60  # seconds for what takes a moment on an idle machine
expect.set_options(timeout=1000 * PATIENCE)
Open = Callable[..., Any]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as running:
        yield running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])


@pytest.fixture
def context(browser: Any) -> Iterator[Any]:
    """A browser that has kept nothing yet, without a network; a script that fails in it fails the test."""
    problems: list[str] = []
    with browser.new_context(viewport={"width": 1000, "height": 700}, offline=True) as context:
        context.set_default_timeout(1000 * PATIENCE)
        context.on("weberror", lambda error: problems.append(str(error.error)))
        context.on("dialog", lambda dialog: (problems.append(dialog.message), dialog.dismiss()))
        yield context
    assert problems == []


@pytest.fixture
def open_review(context: Any, tmp_path: Path) -> Open:
    """Opens the review of these rows in a new tab."""

    def open_review(
        rows: list[Issue], classes: list[str] = CLASSES, data_version: str = "1" * 32 + ".dir", **options: Any
    ) -> Any:
        page = new_page(context)
        page.goto(write_page(tmp_path / "review.html", rows, classes, data_version, **options).as_uri())
        wait_until_recalled(page)
        return page

    return open_review


def new_page(context: Any) -> Any:
    page = context.new_page()
    page.on("filechooser", lambda _: None)  # else the first one may open before it is caught
    return page


def wait_until_recalled(page: Any) -> None:
    """Waits for what a person waits for: until the browser has said which decisions it keeps, no image is shown."""
    expect(page.locator("#progress")).not_to_be_empty()


def write_page(
    path: Path, rows: list[Issue], classes: list[str] = CLASSES, data_version: str = "1", **options: Any
) -> Path:
    pictures = {row.filename: draw_thumbnail(picture(row.sha256), PICTURE) for row in rows}
    write_review(str(path), rows, pictures=pictures, classes=classes, data_version=data_version, **options)
    return path


def picture(sha256: str, size: tuple[int, int] = (60, 40)) -> bytes:
    """A stroke on paper, another one for each hash."""
    page = Image.new("L", size, 255)
    x = int(sha256[:4], 16) % (size[0] - 8)
    page.paste(0, (x, 4, x + 6, size[1] - 4))
    buffer = io.BytesIO()
    page.save(buffer, "PNG")
    return buffer.getvalue()


def issue(number: int, **cells: Any) -> Issue:
    """A row of issues.csv: train/i/<number>.png, which the judge takes for ii."""
    filename = f"train/i/{number}.png"
    row = Issue(
        rank=number,
        sha256=hashlib.sha256(filename.encode()).hexdigest(),
        filename=filename,
        split="train",
        label="i",
        kinds=("label",),
        action="relabel",
        new_label="ii",
        confidence=0.91,
        prediction="ii",
        probability=0.934,
        label_probability=0.004,
        label_score=0.01,
        outlier_score=0.5,
        duplicate_score=0,
        group=None,
        why="The judge reads ii.",
    )
    return row._replace(**cells)


def issues(count: int) -> list[Issue]:
    return [issue(number) for number in range(1, count + 1)]


def press(page: Any, keys: str) -> None:
    """Presses keys that are separated by spaces."""
    for key in keys.split():
        page.keyboard.press(key)


def expect_progress(page: Any, text: str) -> None:
    expect(page.locator("#progress")).to_have_text(text)


def save(page: Any, target: Path, name: str = "decisions.csv") -> Path:
    with page.expect_download() as download:
        press(page, "w")
    assert download.value.suggested_filename == name
    download.value.save_as(target)
    return target


def decisions(path: Path, rows: list[Issue], classes: list[str] = CLASSES) -> list[tuple[int, str, str]]:
    """What read_decisions finds in a file: rank of the image, decision, new label."""
    examples = {(row.sha256, row.filename): row.label for row in rows}
    ranks = {row.filename: row.rank for row in rows}
    return [(ranks[one.filename], one.decision, one.new_label) for one in read_decisions(path, examples, classes)[""]]


def test_shows_what_there_is_to_know(open_review: Open):
    rows = [issue(1, kinds=("label", "near_duplicate"), why="Nine of ten judges read ii."), issue(2, prediction="")]
    page = open_review(rows)
    image = page.get_by_role("region", name="Image", exact=True)
    for text in ("1 of 2", "label", "near duplicate", "93 %", "< 1 %", "Nine of ten judges read ii.", "train/i/1.png"):
        expect(image.get_by_text(text, exact=True)).to_be_visible()
    expect(page.locator("#beliefs")).to_have_text("given labeli< 1 %model thinksii93 %")
    expect(page.get_by_role("button", name="Relabel to ii")).to_be_enabled()
    picture = page.get_by_role("img", name="train/i/1.png, given label i")
    assert picture.evaluate("async image => (await image.decode(), image.naturalWidth)") == 60
    press(page, "ArrowRight")
    expect(page.locator("#beliefs")).to_have_text("given labeli< 1 %")


def test_asks_nobody_for_anything(open_review: Open, context: Any):
    asked: list[str] = []
    said: list[str] = []
    context.on("request", lambda request: asked.append(request.url))
    context.on("console", lambda message: said.append(message.text))
    page = open_review(issues(3))
    press(page, "k g ? Escape")
    assert {url.split(":")[0] for url in asked} <= {"file", "data"}
    assert sum(url.startswith("file:") for url in asked) == 1
    assert said == []  # what the browser refuses, it says on the console


def test_every_decision_by_keyboard_ends_up_in_the_file(open_review: Open, tmp_path: Path):
    rows = issues(9)
    page = open_review(rows)
    press(page, "k d s a")
    press(page, "r 4")  # by number
    press(page, "r i v Enter")  # by name, although iv and v and i match too
    press(page, "r Enter")  # what the audit suggests is marked
    press(page, "r ArrowDown Enter")
    expect_progress(page, "8 of 9 decided")
    expect(page.locator("#counts")).to_have_text("1 keep · 5 relabel · 1 drop · 1 skip")
    file = save(page, tmp_path / "decisions.csv")
    relabelled = [(4, "relabel", "ii"), (5, "relabel", "iv"), (6, "relabel", "iv"), (7, "relabel", "ii")]
    assert decisions(file, rows) == [(1, "keep", ""), (2, "drop", ""), *relabelled, (8, "relabel", "iii")]
    with file.open(newline="") as lines:
        saved = list(csv.DictReader(lines))
    assert list(saved[0]) == ["sha256", "filename", "label", "decision", "new_label", "decided_at"]
    assert list(saved[0]) == list(columns.COLUMNS)
    assert [row["decision"] for row in saved[:3]] == ["keep", "drop", "skip"]
    assert all(re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ", row["decided_at"]) for row in saved)


def test_undo_goes_back_step_by_step(open_review: Open, tmp_path: Path):
    rows = issues(3)
    page = open_review(rows)
    press(page, "k d ArrowLeft ArrowLeft a")  # the first image is decided twice
    expect(page.locator("#counts")).to_have_text("1 relabel · 1 drop")
    press(page, "u")
    expect(page.locator("#name")).to_have_text("train/i/1.png")
    expect(page.locator("#verdict")).to_have_text("Decided: keep")
    press(page, "u u u")
    expect_progress(page, "0 of 3 decided")
    expect(page.get_by_role("button", name="Undo")).to_be_disabled()
    assert decisions(save(page, tmp_path / "decisions.csv"), rows) == []


def test_relabel_to_the_given_label_keeps(open_review: Open, tmp_path: Path):
    page = open_review(issues(2))
    press(page, "r 1")
    expect(page.locator("#counts")).to_have_text("1 keep")
    assert ",i,keep,," in save(page, tmp_path / "decisions.csv").read_text()


def test_a_key_that_is_held_decides_once(open_review: Open):
    page = open_review(issues(5))
    for _ in range(3):
        page.keyboard.down("k")
    expect_progress(page, "1 of 5 decided")


def test_escape_leaves_the_choice_of_a_class(open_review: Open):
    page = open_review(issues(2))
    press(page, "r v Escape k")
    expect(page.locator("#counts")).to_have_text("1 keep")


def test_what_is_typed_but_is_no_class_decides_nothing(open_review: Open):
    page = open_review(issues(2))
    press(page, "r q Enter")
    expect(page.get_by_text("No such class.")).to_be_visible()
    expect_progress(page, "0 of 2 decided")


@pytest.mark.parametrize(
    ("classes", "keys", "chosen"),
    [
        (["cat", "cow", "crab"], "c r Enter", "crab"),
        (["Ant", "ant", "an"], "a n t Enter", "ant"),
        ([str(digit) for digit in range(10)], "1 Enter", "1"),  # a name, not the first class
        ([f"class {chr(97 + index)}" for index in range(10)], "0", "class j"),
        ([chr(97 + index) * 3 for index in range(26)], "1 2 Enter", "lll"),
        ([f"n{index}" for index in range(100)], "9 9 Enter", "n99"),
        (["Ø-ring", "o-rail", "nut"], "o - r i Enter", "Ø-ring"),  # for who has no Ø on the keyboard
        (["Öse", "nut", "bolt"], "o s Enter", "Öse"),
    ],
)
def test_any_class_names(open_review: Open, tmp_path: Path, classes: list[str], keys: str, chosen: str):
    rows = [issue(1, label=classes[2], new_label="", prediction="", action="look")]
    page = open_review(rows, classes)
    press(page, f"r {keys}")
    assert page.locator("#verdict").text_content() in (f"Decided: relabel to {chosen}", "Decided: keep")
    expected = (1, "keep", "") if chosen == classes[2] else (1, "relabel", chosen)
    assert decisions(save(page, tmp_path / "decisions.csv"), rows, classes) == [expected]


def test_a_class_name_of_some_letters_stands_in_one_line(open_review: Open):
    page = open_review([issue(1)], classes=["Bananen", "Birnen", "Äpfel", "strawberries"])
    press(page, "r")
    options = page.get_by_role("option").locator("span")
    expect(options).to_have_count(4)
    heights = [options.nth(number).bounding_box()["height"] for number in range(4)]
    assert len(set(heights)) == 1, heights


@pytest.mark.parametrize(
    ("classes", "said"),
    [
        (CLASSES, "relabel: then the class by number, or by typing, and Enter"),
        (["10 mm washer", "hex bolt"], "relabel: then the class by typing, and Enter"),
    ],
)
def test_help_speaks_of_numbers_where_classes_have_them(open_review: Open, classes: list[str], said: str):
    page = open_review([issue(1, label=classes[0], new_label="", prediction="", action="look")], classes)
    press(page, "?")
    expect(page.locator("dl.help dd").nth(2)).to_have_text(said, use_inner_text=True)


def test_accepting_what_the_audit_suggests(open_review: Open, tmp_path: Path):
    same = {"action": "keep_one", "kinds": ("exact_duplicate",), "group": 1, "sha256": issue(1).sha256}
    copies = [issue(number, **same) for number in (1, 3, 5)]
    rows = sorted([*copies, issue(2, action="drop"), issue(4, action="look")])
    page = open_review(rows)
    group = page.get_by_role("region", name="Duplicates")
    expect(group.get_by_role("button")).to_have_count(3)
    expect(group.get_by_text("train, same bytes")).to_have_count(2)
    press(page, "ArrowRight ArrowRight a")  # the second copy is the one to keep
    expect(page.get_by_role("button", name="No suggestion")).to_be_disabled()
    press(page, "a")
    expect(page.locator("#status")).to_have_text("There is no suggestion for 4.png: look at it and decide.")
    press(page, "ArrowLeft ArrowLeft")
    expect(page.locator("#status")).to_be_empty()
    expect(group).to_be_hidden()
    press(page, "a")
    expected = [(1, "drop", ""), (2, "drop", ""), (3, "keep", "")]
    assert sorted(decisions(save(page, tmp_path / "decisions.csv"), rows)) == [*expected, (5, "drop", "")]
    press(page, "u u")  # what was accepted with one key is undone with one
    expect_progress(page, "0 of 5 decided")


def test_filters_by_keyboard(open_review: Open):
    others = [issue(3, label="v", filename="train/v/3.png", kinds=("outlier", "label")), issue(4, kinds=("outlier",))]
    page = open_review([*issues(2), *others])
    press(page, "f ArrowDown ArrowDown ArrowDown ArrowDown ArrowDown Escape")
    expect(page.locator("#position")).to_have_text("1 of 1 shown, rank 3")
    press(page, "f Home Tab ArrowDown ArrowDown Escape")
    expect(page.locator("#position")).to_have_text("1 of 2 shown, rank 3")
    press(page, "k f Tab Home Tab ArrowDown Escape")  # undecided
    expect(page.locator("#position")).to_have_text("3 of 3 shown, rank 4")
    press(page, "Home d")
    expect(page.locator("#position")).to_have_text("1 of 2 shown, rank 2")
    press(page, "d d")
    expect(page.get_by_text("No image passes these filters.")).to_be_visible()
    expect_progress(page, "4 of 4 decided: save decisions.csv")
    page.get_by_role("button", name="Show all images").press("Enter")
    expect(page.locator("#position")).to_contain_text("of 4")


def test_decisions_are_there_when_the_page_is_opened_again(open_review: Open, tmp_path: Path):
    rows = issues(4)
    page = open_review(rows)
    press(page, "k a")
    page.reload()
    expect_progress(page, "2 of 4 decided")
    expect(page.locator("#position")).to_have_text("3 of 4")
    press(page, "d")
    again = open_review(rows)
    assert decisions(save(again, tmp_path / "decisions.csv"), rows) == [
        (1, "keep", ""),
        (2, "relabel", "ii"),
        (3, "drop", ""),
    ]
    expect_progress(open_review(rows, data_version="another"), "0 of 4 decided")


def test_the_page_of_disputed_images_shows_who_decided_what_and_asks_again(open_review: Open, tmp_path: Path):
    """A person who has decided on the review page, in the same browser, decides anew here."""
    rows = issues(3)
    own = open_review(rows)
    press(own, "k k k")
    hostile = "<img src=x onerror='window.hacked = 1'>"
    disputes = {
        row.filename: {
            "anna": columns.Decision(row.sha256, row.filename, row.label, "relabel", "iv"),
            hostile: columns.Decision(row.sha256, row.filename, row.label, "drop"),
        }
        for row in rows[:2]
    }
    page = open_review(rows[:2], disputes=disputes)
    expect(page.get_by_role("heading", name="Disputed images")).to_be_visible()
    expect(page.locator("#beliefs")).to_have_text(f"given labeli< 1 %model thinksii93 %annarelabel to iv{hostile}drop")
    expect_progress(page, "0 of 2 decided")
    press(page, "r i v Enter d")
    expect_progress(page, "2 of 2 decided: save decisions-settled.csv")
    settled = save(page, tmp_path / "decisions-settled.csv", "decisions-settled.csv")
    assert decisions(settled, rows) == [(1, "relabel", "iv"), (2, "drop", "")]
    assert columns.name_reviewer(str(settled)) == columns.SETTLED
    assert page.evaluate("window.hacked") is None
    assert decisions(save(own, tmp_path / "decisions.csv"), rows) == [(1, "keep", ""), (2, "keep", ""), (3, "keep", "")]
    again = open_review(rows[1:], disputes={rows[2].filename: disputes[rows[0].filename]})
    expect_progress(again, "1 of 2 decided")
    expect(again.locator("#counts")).to_have_text("1 drop · 1 on images not listed here")


def test_what_was_settled_before_is_saved_again(open_review: Open, tmp_path: Path):
    """By a person who goes on in another browser, or on another machine."""
    rows = issues(3)
    dropped, relabelled, asked = (columns.Decision(row.sha256, row.filename, row.label, "drop") for row in rows)
    relabelled = relabelled._replace(decision="relabel", new_label="iv")
    page = open_review(rows[2:], disputes={asked.filename: {"anna": asked}}, settled=[dropped, relabelled])
    expect_progress(page, "0 of 1 decided")
    press(page, "k")
    settled = save(page, tmp_path / "decisions-settled.csv", "decisions-settled.csv")
    assert decisions(settled, rows) == [(3, "keep", ""), (1, "drop", ""), (2, "relabel", "iv")]


def test_the_guideline_of_both_classes_stands_beside_the_picture(open_review: Open, tmp_path: Path):
    (tmp_path / "labels.md").write_text(
        "# Numerals\n\n## i\n\nOne *stroke*.\n\n## ii\n\n| like | unlike |\n|-|-|\n| two | three |\n\n## iv\n\n"
        "<img src=x onerror='window.hacked = 1'> [here](https://example.org)\n"
    )
    rows = [issue(1), issue(2, new_label="", prediction="iv"), issue(3, new_label="v"), issue(4, prediction="i")]
    guideline = read_guideline(tmp_path / "labels.md", CLASSES)
    page = open_review(rows, guideline=guideline)
    rules = page.get_by_role("region", name="Guideline").get_by_role("article")
    expect(rules).to_have_text(["iOne stroke.", re.compile(r"^ii\s*like\s+unlike\s+two\s+three\s*$")])
    expect(rules.locator("em")).to_have_text("stroke")
    press(page, "ArrowRight")
    said = "<img src=x onerror='window.hacked = 1'> [here](https://example.org)"
    expect(rules).to_have_text(["iOne stroke.", f"iv{said}"])
    press(page, "ArrowRight")
    expect(rules).to_have_text(["iOne stroke.", "vlabels.md has no section on this class."])
    assert page.evaluate("[window.hacked, document.querySelectorAll('#rules a, #rules img').length]") == [None, 0]
    without = open_review(rows)
    assert without.locator("#rules").count() == 0


def test_two_tabs_share_their_decisions(open_review: Open, tmp_path: Path):
    rows = issues(3)
    one, other = open_review(rows), open_review(rows)
    press(one, "k")
    expect_progress(other, "1 of 3 decided")
    press(other, "ArrowRight d")
    expect_progress(one, "2 of 3 decided")
    assert decisions(save(one, tmp_path / "decisions.csv"), rows) == [(1, "keep", ""), (2, "drop", "")]


def test_what_another_audit_of_the_same_version_listed_is_not_lost(open_review: Open, tmp_path: Path):
    rows = issues(3)
    press(open_review(rows), "k d k")
    page = open_review(rows[:1])
    expect_progress(page, "1 of 1 decided: save decisions.csv")
    expect(page.locator("#counts")).to_have_text("1 keep · 2 on images not listed here")
    found = decisions(save(page, tmp_path / "decisions.csv"), rows)
    assert found == [(1, "keep", ""), (2, "drop", ""), (3, "keep", "")]


def load(page: Any, file: Path) -> None:
    with page.expect_file_chooser() as chooser:
        press(page, "o")
    chooser.value.set_files(file)


def test_goes_on_in_another_browser(open_review: Open, tmp_path: Path):
    rows = issues(5)
    first = open_review(rows, data_version="here")
    press(first, "k a s")
    file = save(first, tmp_path / "decisions.csv")
    page = open_review(rows, data_version="there")
    load(page, file)
    expect_progress(page, "3 of 5 decided")
    expect(page.locator("#position")).to_have_text("4 of 5")
    press(page, "d")
    found = decisions(save(page, file), rows)
    assert found == [(1, "keep", ""), (2, "relabel", "ii"), (4, "drop", "")]
    press(page, "u u")
    expect_progress(page, "0 of 5 decided")


def test_loads_what_a_spreadsheet_saved(open_review: Open, tmp_path: Path):
    rows = [issue(1, filename='train/i/;"1".png'), *issues(5)[1:]]
    filled_in = [
        rows[0]._replace(decision="Relabel", decided_label="v"),
        rows[1]._replace(decision="relabel", decided_label="vv"),
        rows[2]._replace(filename="train/i/other.png", decision="drop"),
        rows[3]._replace(decision="delete"),
        rows[4],
    ]
    file = tmp_path / "issues.csv"
    write_issues(file, filled_in)
    text = io.StringIO()
    with file.open(newline="") as lines:
        csv.writer(text, delimiter=";").writerows(csv.reader(lines))
    file.write_text("\ufeff" + text.getvalue())
    page = open_review(rows)
    load(page, file)
    expect(page.get_by_role("status")).to_have_text(
        "issues.csv: 1 decision loaded. 1 left out, on images that this page does not list."
        " 2 left out, with an unknown decision or class."
    )
    assert decisions(save(page, tmp_path / "decisions.csv"), rows) == [(1, "relabel", "v")]


@pytest.mark.parametrize("content", ["", "a,b\n1,2\n", "PK\x03\x04"])
def test_refuses_a_file_that_holds_no_decisions(open_review: Open, tmp_path: Path, content: str):
    page = open_review(issues(1))
    (tmp_path / "other.csv").write_text(content)
    load(page, tmp_path / "other.csv")
    expect(page.get_by_role("status")).to_contain_text("other.csv has no columns sha256, filename and decision")


def test_grid_by_keyboard(open_review: Open, tmp_path: Path):
    rows = issues(20)
    page = open_review(rows)
    press(page, "g")
    cards = page.get_by_role("region", name="Images").get_by_role("button")
    expect(cards).to_have_count(20)
    columns = cards.evaluate_all("cards => cards.filter(card => card.offsetTop === cards[0].offsetTop).length")
    assert 3 <= columns < 10
    press(page, "ArrowDown d ArrowLeft ArrowLeft k")
    press(page, "End r 5")
    expect(cards.nth(columns)).to_contain_text("drop")
    expect(cards.nth(19)).to_be_focused()
    expected = [(columns, "keep", ""), (columns + 1, "drop", ""), (20, "relabel", "v")]
    assert decisions(save(page, tmp_path / "decisions.csv"), rows) == expected
    last, footer = cards.nth(19).bounding_box(), page.locator("footer").bounding_box()
    assert last["y"] + last["height"] <= footer["y"]
    press(page, "Home ArrowRight Enter")
    expect(page.locator("#name")).to_have_text("train/i/2.png")


def test_grid_goes_on_where_a_decided_image_vanishes(open_review: Open):
    page = open_review(issues(4))
    press(page, "f Tab Tab ArrowDown Escape g ArrowRight d")
    cards = page.get_by_role("region", name="Images").get_by_role("button")
    expect(cards).to_have_count(3)
    expect(cards.nth(1)).to_be_focused()
    press(page, "Enter")
    expect(page.locator("#name")).to_have_text("train/i/3.png")


def test_help_names_the_keys(open_review: Open):
    page = open_review(issues(1))
    press(page, "?")
    help = page.get_by_role("dialog", name="Keys")
    for word in ("keep", "relabel", "drop", "skip", "undo", "save decisions.csv"):
        expect(help.get_by_text(re.compile(f"^{word}"))).to_be_visible()
    press(page, "k Escape")
    expect(help).to_be_hidden()
    expect_progress(page, "0 of 1 decided")


def test_the_focus_is_seen_and_reaches_everything(open_review: Open):
    page = open_review(issues(1))
    seen = []
    for _ in range(16):
        press(page, "Tab")
        name, outline = page.evaluate(
            "() => [document.activeElement.id, getComputedStyle(document.activeElement).outlineStyle]"
        )
        seen.append(name)
        assert outline != "none" or name in ("", "main")
    assert {"class", "kind", "decision", "view", "save", "load", "help", "accept", "keep", "relabel", "drop"} < {*seen}


def test_an_audit_that_found_nothing(open_review: Open, tmp_path: Path):
    page = open_review([])
    expect(page.get_by_text("The audit found no suspicious image.")).to_be_visible()
    press(page, "k a r g u ArrowRight")
    assert decisions(save(page, tmp_path / "decisions.csv"), []) == []


HOSTILE = [
    "</script><script>window.hacked = 1</script>",
    "<img src=x onerror='window.hacked = 1'>",
    "${window.hacked = 1} {{ 7 * 7 }}",
    "\"' onmouseover='window.hacked = 1",
    '=HYPERLINK(1),;\t"x"\r\n\u2028',
    "__proto__",
]


def labels(given: str, suggested: str) -> dict[str, str]:
    return {"label": given, "prediction": suggested, "new_label": suggested}


def test_hostile_names_are_only_text(open_review: Open, tmp_path: Path):
    rows = [
        issue(number, filename=f"train/{name}/{name}.png", why=name, kinds=(name,), group=1, **labels(name, following))
        for number, (name, following) in enumerate(zip(HOSTILE, HOSTILE[1:] + HOSTILE[:1], strict=True), 1)
    ]
    page = open_review(rows, HOSTILE, data_version=HOSTILE[0])
    for row in rows:
        assert page.locator("#name").text_content() == row.filename
        press(page, "r Enter")
    press(page, "g ? Escape")
    assert page.evaluate("[window.hacked, document.querySelectorAll('script').length]") == [None, 4]
    following = [(number, "relabel", HOSTILE[number % len(HOSTILE)]) for number in range(1, len(rows) + 1)]
    file = save(page, tmp_path / "decisions.csv")
    assert decisions(file, rows, HOSTILE) == following
    other = open_review(rows, HOSTILE)
    load(other, file)
    expect_progress(other, "6 of 6 decided: save decisions.csv")
    assert decisions(save(other, file), rows, HOSTILE) == following


def test_no_cell_of_decisions_is_a_formula_for_a_spreadsheet(open_review: Open, tmp_path: Path):
    classes = ["=1+1", "-1", "'=1+1", "i"]
    rows = [issue(number, action="look", prediction="", new_label=name) for number, name in enumerate(classes[:3], 1)]
    page = open_review(rows, classes)
    press(page, "r Enter r Enter r Enter")
    file = save(page, tmp_path / "decisions.csv")
    with file.open(newline="") as lines:
        assert [row["new_label"] for row in csv.DictReader(lines)] == ["'=1+1", "'-1", "''=1+1"]
    expected = [(number, "relabel", name) for number, name in enumerate(classes[:3], 1)]
    assert decisions(file, rows, classes) == expected
    other = open_review(rows, classes, data_version="2")
    load(other, file)
    expect_progress(other, "3 of 3 decided: save decisions.csv")
    assert decisions(save(other, file), rows, classes) == expected


def test_a_store_that_others_have_filled_is_not_believed(open_review: Open):
    rows = issues(2)
    page = open_review(rows)
    press(page, "k")
    keep(page, [None, 7, {"decision": "explode"}])
    page.reload()
    expect_progress(page, "0 of 2 decided")
    page.evaluate("store => localStorage.setItem(store, '{')", STORE)
    page.reload()
    wait_until_recalled(page)
    press(page, "d")
    expect_progress(page, "1 of 2 decided")


STORE = f"decisions on data version {'1' * 32}.dir"


def keep(page: Any, records: list[Any]) -> None:
    """Puts records in the place of what the browser keeps for a page, in the database that the page has made."""
    page.evaluate(
        """async ([store, records]) => {
          const finish = (request) => new Promise((resolve) => { request.onsuccess = () => resolve(request.result); });
          const database = await finish(indexedDB.open("review"));
          const kept = database.transaction("decisions", "readwrite").objectStore("decisions");
          await finish(kept.clear());
          for (const [index, record] of records.entries()) await finish(kept.put(record, [store, String(index)]));
          database.close();
        }""",
        [STORE, records],
    )


def test_what_the_page_of_an_earlier_release_has_kept_is_taken_over(open_review: Open, tmp_path: Path):
    rows = issues(3)
    page = open_review(rows)
    press(page, "s k")
    earlier = [
        {**{name: getattr(row, name) for name in ("sha256", "filename", "label")}, "decided_at": "2024-01-01T10:00:00Z"}
        for row in rows
    ]
    earlier = [{**record, "decision": "relabel", "new_label": "iv"} for record in earlier[1:]]
    page.evaluate("([store, kept]) => localStorage.setItem(store, JSON.stringify(kept))", [STORE, earlier])
    page.reload()
    expect_progress(page, "3 of 3 decided: save decisions.csv")
    assert page.evaluate("localStorage.length") == 0
    page.reload()
    expect_progress(page, "3 of 3 decided: save decisions.csv")
    file = save(page, tmp_path / "decisions.csv")
    assert decisions(file, rows) == [(2, "keep", ""), (3, "relabel", "iv")], "what was decided later counts"


def test_in_the_sandboxed_frame_of_the_kubeflow_ui(context: Any, tmp_path: Path):
    rows = issues(3)
    html = write_page(tmp_path / "review.html", rows).read_text()
    page = new_page(context)
    page.set_content("<iframe sandbox='allow-scripts' style='width: 900px; height: 600px'></iframe>")
    page.locator("iframe").evaluate("(frame, html) => { frame.srcdoc = html; }", html)
    frame = page.frame_locator("iframe")
    expect(frame.get_by_role("alert")).to_have_text(
        "This browser does not keep decisions here: save decisions.csv before you close the page."
    )
    frame.get_by_role("main").focus()
    press(page, "k a d u")
    expect(frame.locator("#progress")).to_have_text("2 of 3 decided")
    press(page, "w")
    unsaved = frame.locator("#save.unsaved")  # the frame may have refused the file
    expect(unsaved).to_have_count(1)
    content = frame.get_by_role("textbox", name="Content of decisions.csv").input_value()
    (tmp_path / "decisions.csv").write_text(content)
    assert decisions(tmp_path / "decisions.csv", rows) == [(1, "keep", ""), (2, "relabel", "ii")]
    frame.get_by_role("button", name="Copy").press("Enter")
    expect(unsaved).to_have_count(0)


@pytest.mark.parametrize("classes", [CLASSES, [f"a_class_with_a_rather_long_name_{index}" for index in range(60)]])
def test_on_a_phone(browser: Any, tmp_path: Path, classes: list[str]):
    rows = [
        issue(number, **labels(*classes[:2]), group=1, filename=f"train/{classes[0]}/{'x' * 90}{number}.png")
        for number in (1, 2)
    ]
    with browser.new_context(viewport={"width": 360, "height": 640}, is_mobile=True, has_touch=True) as context:
        page = new_page(context)
        page.goto(write_page(tmp_path / "review.html", rows, classes).as_uri())

        def check_width() -> None:
            assert page.evaluate("document.documentElement.scrollWidth") == 360

        check_width()
        buttons = [button.bounding_box() for button in page.get_by_role("button").all()]
        assert all(box["height"] >= 44 and box["x"] >= 0 and box["x"] + box["width"] <= 360 for box in buttons)
        page.get_by_role("button", name="Relabel", exact=True).tap()
        check_width()
        page.get_by_role("dialog").get_by_role("option").last.tap()
        page.get_by_role("button", name="Keep", exact=True).tap()
        expect(page.locator("#counts")).to_have_text("1 keep · 1 relabel")
        page.get_by_role("button", name="Grid").tap()
        check_width()


def test_the_browser_knows_every_declaration_of_the_style_sheet(open_review: Open):
    style = (ROOT / "components/shared/review.css").read_text()
    declarations = re.findall(r"^\s+([a-z-]+): ([^;{]+?)(?: !important)?;", style, re.MULTILINE)
    assert len(declarations) > 250
    unknown = "declarations => declarations.filter(([name, value]) => !CSS.supports(name, value))"
    assert open_review(issues(1)).evaluate(unknown, declarations) == []


def test_light_and_dark(open_review: Open):
    page = open_review(issues(1))
    brightness = "() => getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)"
    page.emulate_media(color_scheme="light")
    assert min(page.evaluate(brightness)) > 230
    page.emulate_media(color_scheme="dark")
    assert max(page.evaluate(brightness)) < 40


@pytest.fixture(scope="module")
def scans() -> list[bytes]:
    """Pictures as people scan them, of some thousand bytes."""
    scans = []
    for number in range(10):
        draw_page(np.random.default_rng(number), "vii").resize((150, 120)).save(buffer := io.BytesIO(), "PNG")
        scans.append(buffer.getvalue())
    return scans


def test_a_thousand_images(context: Any, tmp_path: Path, scans: list[bytes]):
    rows, path = issues(1000), tmp_path / "review.html"
    pictures = {row.filename: draw_thumbnail(scans[row.rank % 10], PICTURE) for row in reversed(rows)}
    write_review(str(path), rows, pictures=pictures, classes=CLASSES, data_version="1")
    assert path.stat().st_size < 8_000_000
    page = new_page(context)
    start = time.monotonic()
    page.goto(path.as_uri())
    expect(page.locator("#position")).to_have_text("1 of 1000")
    press(page, "g")
    cards = page.get_by_role("region", name="Images").get_by_role("button")
    expect(cards.first).to_be_focused()
    assert 20 < cards.count() < 60, "only those that are nearly in view"
    press(page, " ".join("k" * 20))
    expect_progress(page, "20 of 1000 decided")
    assert time.monotonic() - start < PATIENCE


def test_fifty_thousand_images(context: Any, tmp_path: Path, scans: list[bytes]):
    """One file; what a person does on it takes no longer than with a few; all decisions are kept."""
    rows, path = issues(MOST), tmp_path / "review.html"
    thumbnails = [draw_thumbnail(scan, SMALL_PICTURE, compact=True) for scan in scans]
    pictures = {row.filename: thumbnails[row.rank % 10] for row in rows}
    write_review(str(path), rows, pictures=pictures, classes=CLASSES, data_version="1")
    assert path.stat().st_size < 100_000_000
    page = new_page(context)
    page.goto(path.as_uri())
    expect(page.locator("#position")).to_have_text("1 of 50000")
    press(page, "g End")
    cards = page.get_by_role("region", name="Images").get_by_role("button")
    last = cards.last
    expect(last).to_be_focused()
    expect(last).to_be_in_viewport(ratio=1)
    assert last.get_attribute("title") == "train/i/50000.png"
    assert last.get_by_role("presentation").evaluate("async image => (await image.decode(), image.naturalWidth)") == 112
    assert cards.count() < 100
    press(page, "ArrowUp ArrowLeft d")  # six in a row
    expect(page.locator("[aria-current]")).to_have_attribute("title", "train/i/49994.png")
    expect(page.locator("[aria-current]")).to_be_focused()
    page.mouse.move(500, 300)
    page.mouse.wheel(0, -100_000)
    expect(last).not_to_have_attribute("title", "train/i/50000.png")
    expect(cards.nth(24)).to_be_in_viewport()
    press(page, "ArrowRight")  # goes on where the person was, who looked elsewhere in between
    expect(page.locator("[aria-current]")).to_be_in_viewport(ratio=1)
    expect(page.locator("[aria-current]")).to_have_attribute("title", "train/i/49995.png")
    press(page, "Enter")
    expect(page.locator("#name")).to_have_text("train/i/49995.png")

    others = [columns.SavedDecision(row.sha256, row.filename, row.label, "skip", "", "") for row in rows[:-10]]
    write_rows(tmp_path / "decisions.csv", columns.COLUMNS, others)
    load(page, tmp_path / "decisions.csv")
    expect_progress(page, "49991 of 50000 decided")
    page.reload()
    expect_progress(page, "49991 of 50000 decided")
    expect(page.locator("#counts")).to_have_text("1 drop · 49990 skip")


def test_says_how_many_doubted_images_it_leaves_out(open_review: Open):
    said = "The 2 images that are doubted most, of 3."
    page = open_review(issues(2), left_out=said)
    expect(page.get_by_text(said)).to_be_visible()
    assert open_review(issues(2)).locator("#left-out").count() == 0


def test_pictures_are_small_and_those_of_other_images_left_out(tmp_path: Path):
    rows = issues(2)
    pictures = {row.filename: draw_thumbnail(picture(row.sha256, (900, 600)), PICTURE) for row in rows}
    path = tmp_path / "review.html"
    others = {"train/i/other.png": "data:,no picture"}
    write_review(str(path), rows, pictures=others | pictures, classes=CLASSES, data_version="1")
    assert path.stat().st_size < 60_000
    assert "no picture" not in path.read_text()
    size = Image.open(io.BytesIO(base64.b64decode(pictures[rows[0].filename].partition(",")[2]))).size
    assert size == (200, 133)


def test_a_missing_picture_leaves_no_page(tmp_path: Path):
    pictures = {"train/i/1.png": draw_thumbnail(picture("0" * 64))}
    with pytest.raises(KeyError, match="train/i/2.png"):
        write_review(str(tmp_path / "review.html"), issues(2), pictures=pictures, classes=CLASSES, data_version="1")
    assert list(tmp_path.iterdir()) == []
