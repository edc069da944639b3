"""How the state of pictures and the doubt about their labels make one order, and what a policy makes of it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from components.audit.judge import Verdict
from components.audit.ranking import AuditedImage, rank_images
from components.audit.state import NO_INK, PictureState
from components.curate.planning import Policy, plan_outcomes
from components.curate.reading import SourceImage
from components.curate.voting import Settlement
from components.shared.duplicates import Duplicates
from components.shared.errors import UserError
from components.shared.formats.examples import CopyOrder
from components.shared.formats.issues import Issue

CLASSES = ["i", "v"]
USUAL = PictureState(parts=1.0, contrast=200.0, cut=0.0, side="", strokes=1.0, framed=False)
FRAGMENTED, FADED = USUAL._replace(parts=20.0), USUAL._replace(contrast=40.0)
FRAMED, CUT, CROWDED = USUAL._replace(framed=True), USUAL._replace(cut=2.0, side="left"), USUAL._replace(strokes=9.0)
BOTH = CUT._replace(strokes=9.0)


def rank(
    states: Sequence[PictureState],
    probabilities: Sequence[float],
    *,
    splits: Sequence[str] = (),
    groups: Sequence[int] = (),
    sizes: Sequence[int] = (),
) -> list[Issue]:
    """Ranks images of i by their states and the probability that they are one, and as many good ones of v."""
    count = len(states)
    images = [
        AuditedImage(f"{n:064x}", f"{split}/i/{n}.png", split, 0, False, state, CopyOrder(0, False, size))
        for n, (state, split, size) in enumerate(
            zip(states, splits or ["train"] * count, sizes or range(count), strict=True)
        )
    ]
    others = [image._replace(sha256=f"{1000 + n:064x}", label=1, state=USUAL) for n, image in enumerate(images)]
    images += [image._replace(filename=image.filename.replace("/i/", "/v/")) for image in others]
    first = np.array([*probabilities, *[0.01] * count], np.float32)
    distance = np.repeat(np.float32([0.1, 0.2]), count)
    numbers = np.array([*(groups or range(count)), *range(count, 2 * count)])
    alike = np.bincount(numbers)[numbers] > 1
    return rank_images(
        images,
        Verdict(np.stack([first, 1 - first], axis=1), distance, distance),
        is_judged=np.array([True, True]),
        duplicates=Duplicates(numbers, alike.astype(float)),
        classes=CLASSES,
        ink=True,
    )


def test_sure_states_come_first_and_the_others_by_their_doubt_and_a_bonus() -> None:
    states = [*[USUAL] * 40, FRAMED, FADED, FRAGMENTED, USUAL, USUAL, CUT, CUT, BOTH, CROWDED]
    probabilities = [0.99] * 40 + [0.99, 0.98, 0.97] + [0.01, 0.29, 0.01, 0.95, 0.94, 0.4]
    ranked = rank(states, probabilities)
    found = [(Path(issue.filename).stem, issue.kinds) for issue in ranked if issue.kinds]
    assert found == [
        ("42", ("fragmented",)),
        ("41", ("faded",)),
        ("40", ("framed",)),
        ("45", ("cut", "label")),
        ("43", ("label",)),
        ("48", ("crowded",)),
        ("44", ("label",)),
        ("47", ("cut", "crowded")),
        ("46", ("cut",)),
    ]
    assert [issue.why for issue in (*ranked[:4], ranked[7])] == [
        "Its ink is in about 20 parts.",
        "Its ink hardly stands out from its paper.",
        "It has a frame around its ink.",
        "It looks like v, not like i. Its ink runs into the left edge.",
        "Its ink runs into the left edge. It has far more strokes side by side than the others of its label.",
    ]
    assert {issue.action for issue in ranked if issue.kinds} == {"look", "relabel"}


def test_the_state_of_a_copy_does_not_hide_that_it_is_one() -> None:
    ranked = rank([CUT, *[USUAL] * 19], [0.99] * 20, groups=[0, 0, *range(2, 20)])
    said = {issue.filename: (issue.kinds, issue.action, issue.why) for issue in ranked if issue.kinds}
    assert said == {
        "train/i/0.png": (
            ("cut", "near_duplicate"),
            "look",
            "Its ink runs into the left edge. It is train/i/1.png again, apart from its place on the page.",
        ),
        "train/i/1.png": (
            ("near_duplicate",),
            "keep_one",
            "It is train/i/0.png again, apart from its place on the page.",
        ),
    }


def test_pictures_that_are_no_ink_have_no_state() -> None:
    assert [issue.kinds for issue in rank([NO_INK] * 9, [0.9] * 9)] == [()] * 18


@given(st.data())
def test_states_change_nothing_that_the_policy_does(data: st.DataObject) -> None:
    """Whatever the probabilities, the duplicates and the thresholds are; 0.3 and 0.7 are where the audit doubts."""
    count = data.draw(st.integers(10, 25))

    def draw(values: st.SearchStrategy[Any]) -> list[Any]:
        return data.draw(st.lists(values, min_size=count, max_size=count))

    shares = st.floats(0, 1) | st.sampled_from([0.29996, 0.3, 0.30004, 0.5, 0.7])
    thresholds = st.floats(0, 1) | st.sampled_from([0.3, 0.5, 0.6, 0.7])
    states = draw(st.sampled_from([USUAL, USUAL, USUAL, FRAGMENTED, FADED, FRAMED, CUT, CROWDED, BOTH]))
    probabilities, groups = draw(shares), draw(st.integers(0, count - 1))
    splits, sizes = draw(st.sampled_from(["train", "train", "val"])), draw(st.integers(0, 2))
    policy = Policy(
        ["train", "val"],
        *[data.draw(thresholds) for _ in range(3)],
        data.draw(st.sampled_from(["drop", "keep"])),
        most_dropped=1.0,
    )

    def plan(states: list[PictureState]) -> Any:
        issues = rank(states, probabilities, splits=splits, groups=groups, sizes=sizes)
        images = [
            SourceImage(
                issue.filename,
                issue.sha256,
                issue.split,
                issue.label,
                ".png",
                CopyOrder(0, False, sizes[int(issue.sha256, 16) % 1000]),
                aspect_ratio=1,
                ink_fraction=0,
                contrast=0,
            )
            for issue in issues
        ]
        try:
            outcomes = plan_outcomes(
                images,
                issues={issue.filename: issue for issue in issues},
                people=Settlement({}, {}, {}),
                policy=policy,
                classes=CLASSES,
            )
        except UserError as error:
            return str(error)
        return [outcome._replace(why="") for outcome in outcomes]

    assert plan(states) == plan([USUAL] * count)
