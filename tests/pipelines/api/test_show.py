import numpy as np

from components.shared.formats.transformed_images import TransformedImage
from pipelines.api.show import Gallery, make_frame
from tests.pipelines.cluster.lab import comparison, evaluation
from tests.rows import make_issue


def test_rows_become_a_column_for_each_field() -> None:
    frame = make_frame([make_issue(filename="train/i/0.png"), make_issue(filename="train/i/1.png")])
    assert list(frame["filename"]) == ["train/i/0.png", "train/i/1.png"]
    assert list(frame.columns)[:4] == ["rank", "sha256", "filename", "split"]
    assert make_frame([]).empty


def test_an_evaluation_becomes_a_row_for_each_split() -> None:
    content = evaluation("1.dir")
    frame = make_frame(content)  # type: ignore[arg-type]
    assert list(frame["split"]) == ["val", "test"]
    assert list(frame["accuracy"]) == [0.75, 0.75]
    assert [frame["accuracy_low"][0], frame["accuracy_high"][0]] == content["val"]["accuracy_interval"]


def test_a_comparison_becomes_a_row_for_each_split() -> None:
    rows = make_frame(comparison()).to_dict("records")  # type: ignore[arg-type]
    accuracy = {"before": 0.5, "after": 0.75, "change": 0.25, "low": -0.125, "high": 0.5}
    images = comparison()["splits"]["val"]["images"]
    assert rows == [{"split": split, "images": images, **accuracy, "mcnemar_p": 0.03125} for split in ("val", "test")]


def test_another_document_becomes_a_row() -> None:
    assert make_frame({"best_epoch": 3, "val_loss": 0.5}).to_dict("records") == [{"best_epoch": 3, "val_loss": 0.5}]


def test_a_gallery_shows_the_same_images_again() -> None:
    pixels = np.zeros((1, 1, 1), np.float32)
    gallery = Gallery((TransformedImage(pixels, name) for name in "abcd"), limit=3)
    first = gallery._repr_html_()
    assert [f"<b>{name}</b>" in first for name in "abcd"] == [True, True, True, False]
    assert gallery._repr_html_() == first
    assert first.startswith("<p>The first 3; there are more.</p>")


def test_a_gallery_of_all_images_says_nothing_of_more() -> None:
    pixels = np.zeros((1, 1, 1), np.float32)
    gallery = Gallery((TransformedImage(pixels, name) for name in "abc"), limit=3)
    assert gallery._repr_html_().startswith("<div")


def test_an_empty_gallery_is_empty() -> None:
    assert Gallery([])._repr_html_() == '<div style="display: flex; flex-wrap: wrap; gap: 8px"></div>'
