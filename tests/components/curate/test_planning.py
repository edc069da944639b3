import hashlib
import itertools
from collections import Counter
from itertools import pairwise
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.curate.planning import MOVED, Outcome, Policy, check_policy, plan_outcomes
from components.curate.reading import SourceImage
from components.curate.voting import Disagreement, Settlement, Voting, settle_decisions
from components.shared.errors import UserError
from components.shared.formats.decisions import Decision
from components.shared.formats.examples import CopyOrder
from components.shared.formats.issues import Issue
from tests.rows import make_issue

CLASSES = ["i", "v"]
ALWAYS = Policy(["train"], 0.9, 0.9, 2.0, "drop")
NEVER = Policy(["train", "val"], 2.0, 2.0, 2.0, "keep")


def image(filename: str, content: str = "") -> SourceImage:
    split, label, _ = filename.split("/")
    sha256 = hashlib.sha256((content or filename).encode()).hexdigest()
    return SourceImage(
        filename, sha256, split, label, ".png", CopyOrder(0, False, 0), aspect_ratio=1, ink_fraction=0, contrast=0
    )


def issue(
    image: SourceImage, action: str = "", confidence: float = 0.95, group: int | None = None, **changed: Any
) -> Issue:
    new_label = CLASSES[1 - CLASSES.index(image.label)] if action == "relabel" else ""
    values: dict[str, Any] = {"probability": 0.5, "label_probability": 0.5, "why": "because", **changed}
    return make_issue(
        sha256=image.sha256,
        filename=image.filename,
        split=image.split,
        label=image.label,
        action=action,
        new_label=new_label,
        confidence=confidence,
        group=group,
        **values,
    )


def person(image: SourceImage, decision: str, new_label: str = "") -> Decision:
    return Decision(image.sha256, image.filename, image.label, decision, new_label)


REST = [image(f"{split}/{name}/rest.png") for split in ("train", "val") for name in CLASSES]  # so that none is empty


def planned(
    images: list[SourceImage],
    issues: dict[str, Issue] | None = None,
    people: list[Decision] | None = None,
    disagreements: dict[str, Disagreement] | None = None,
    **changed: Any,
) -> dict[str, Outcome]:
    """The outcome of each image by file name; an image has no issue unless given."""
    everything = {image.filename: issue(image) for image in [*images, *REST] if image.split != "test"}
    by_name = {decision.filename: decision for decision in people or []}
    outcomes = plan_outcomes(
        [*images, *REST],
        issues={**everything, **(issues or {})},
        people=Settlement(by_name, disagreements or {}, {}),
        policy=ALWAYS._replace(**changed),
        classes=CLASSES,
    )
    assert [outcome.image for outcome in outcomes] == sorted([*images, *REST])
    return {outcome.image.filename: outcome for outcome in outcomes}


A, B, C = (image(f"train/i/{name}.png") for name in "abc")
V = image("val/i/a.png")


# --- people and the policy ---------------------------------------------------------------------


def disputed(*images: SourceImage) -> dict[str, Disagreement]:
    """What anna keeps and ben drops."""
    return {
        image.filename: Disagreement({"anna": person(image, "keep"), "ben": person(image, "drop")}, None)
        for image in images
    }


def test_policy_leaves_alone_what_people_disagree_about_and_its_copies() -> None:
    copy, near = image("train/v/copy.png", A.filename), image("train/i/near.png")
    issues = {
        A.filename: issue(A, "drop", 1.0, 1),
        copy.filename: issue(copy, "relabel", 1.0, 1),
        near.filename: issue(near, "keep_one", 1.0, 1),
        B.filename: issue(B, "drop", 1.0),
    }
    found = planned([A, B, copy, near], issues, disagreements=disputed(A))
    why = "Undecided: anna keep, ben drop."
    assert found[A.filename] == Outcome(A, "train", "i", "", why)
    assert found[copy.filename] == Outcome(copy, "train", "v", "", why)
    assert found[near.filename] == Outcome(near, "train", "i")
    assert found[B.filename].decided_by == "policy"


def test_copies_that_an_earlier_turn_left_with_two_labels_stay_so_and_say_nothing_about_another_one() -> None:
    """As decisions-earlier.csv keeps them; the policy may decide about a copy that was added since."""
    copy, added = image("train/v/copy.png", A.filename), image("train/i/added.png", A.filename)
    issues = {
        A.filename: issue(A, "drop", 1.0, 1),
        copy.filename: issue(copy, "relabel", 1.0, 1),
        added.filename: issue(added, "drop", 1.0, 1),
    }
    found = planned([A, copy, added], issues, people=[person(A, "keep"), person(copy, "keep")])
    assert found[A.filename] == Outcome(A, "train", "i", "person")
    assert found[copy.filename] == Outcome(copy, "train", "v", "person")
    assert found[added.filename].decided_by == "policy"


def test_what_people_disagree_about_has_the_label_that_they_gave_a_copy() -> None:
    copy = image("train/v/copy.png", A.filename)
    found = planned([A, copy], people=[person(copy, "keep")], disagreements=disputed(A))
    assert found[A.filename] == Outcome(A, "train", "v", "person", "As decided for a copy of it.")


def test_a_disputed_image_of_which_val_has_the_picture_still_leaves_train() -> None:
    copy = image("val/i/copy.png", A.filename)
    assert planned([A, copy], disagreements=disputed(A))[A.filename].decided_by == "duplicate"


def test_without_issues_everything_stays() -> None:
    for outcome in planned([A, V, image("test/i/a.png")]).values():
        assert outcome == Outcome(outcome.image, outcome.image.split, outcome.image.label)
        assert outcome.action == "kept"


@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_policy_acts_where_the_audit_is_confident(confidence: float) -> None:
    found = planned([A, B], {A.filename: issue(A, "relabel", confidence), B.filename: issue(B, "drop", confidence)})
    assert found[A.filename] == Outcome(A, "train", "v", "policy", "because")
    assert found[A.filename].action == "relabelled"
    assert found[B.filename] == Outcome(B, "", "", "policy", "because")
    assert found[B.filename].action == "dropped"


@pytest.mark.parametrize("action", ["relabel", "drop", "look", "keep_one", ""])
def test_policy_leaves_what_the_audit_is_not_sure_of(action: str) -> None:
    found = planned([A], {A.filename: issue(A, action, 0.89)})
    assert found[A.filename].action == "kept"


def test_audit_that_doubts_most_images_is_not_followed() -> None:
    images = [image(f"train/i/{number}.png") for number in range(4)]  # beside the two of REST
    doubts = {each.filename: issue(each, "drop") for each in images}
    with pytest.raises(
        UserError, match="would relabel or drop 4 of the 6 images of train, so .*audit with more epochs"
    ):
        planned(images, doubts)
    half = planned(images[:2], doubts, most_dropped=1.0)
    assert all(not half[each.filename].split for each in images[:2])
    people = [person(each, "drop") for each in images]
    assert all(not planned(images, doubts, people)[each.filename].split for each in images)


@pytest.mark.parametrize("action", ["relabel", "drop", "look"])
def test_a_threshold_above_one_is_never_reached(action: str) -> None:
    found = planned([A], {A.filename: issue(A, action, 1.0)}, **NEVER._asdict())
    assert found[A.filename].action == "kept"


def test_what_the_audit_doubts_is_dropped_on_request() -> None:
    issues = {A.filename: issue(A, "look", 0.8), B.filename: issue(B, "look", 0.7)}
    found = planned([A, B], issues, doubt_confidence=0.8)
    assert [found[image.filename].action for image in (A, B)] == ["dropped", "kept"]


def test_policy_leaves_val_unless_told() -> None:
    issues = {V.filename: issue(V, "relabel")}
    assert planned([V], issues)[V.filename].action == "kept"
    assert planned([V], issues, splits=["val"])[V.filename] == Outcome(V, "val", "v", "policy", "because")


@pytest.mark.parametrize("action", ["", "keep_one"])
def test_a_strict_policy_drops_what_the_audit_hardly_doubts(action: str) -> None:
    issues = {
        A.filename: issue(A, action, 1.0, label_probability=0.45),
        B.filename: issue(B, action, 1.0, label_probability=0.5),
        V.filename: issue(V, action, 1.0, label_probability=0.1),
        C.filename: issue(C, action, 1.0, label_probability=None),  # its class is not judged
    }
    found = planned([A, B, C, V], issues, doubt_confidence=0.5, duplicates="keep")
    assert [found[name].split for name in issues] == ["", "train", "val", "train"]
    assert (found[A.filename].decided_by, found[A.filename].why) == (
        "policy",
        "That it is i has a probability of 0.45 alone.",
    )
    usual = planned([A, B, C, V], issues, doubt_confidence=0.7, duplicates="keep")
    assert [usual[name].split for name in issues] == ["train", "train", "val", "train"]


def test_an_image_that_its_picture_alone_makes_doubtful_is_for_people() -> None:
    """As if it had no issue, the policy drops it for a doubt above the threshold and not at it."""
    kinds = {A.filename: ("cut", "near_duplicate"), B.filename: ("cut", "label")}
    issues = {
        each.filename: issue(each, "look", 0.7, kinds=kinds[each.filename], label_probability=0.3) for each in (A, B)
    }
    found = planned([A, B], issues, doubt_confidence=0.7)
    assert [found[each.filename].action for each in (A, B)] == ["kept", "dropped"]
    found = planned([A, B], issues, doubt_confidence=0.6, most_dropped=1.0)
    assert [found[each.filename].action for each in (A, B)] == ["dropped", "dropped"]
    assert found[A.filename].why == "That it is i has a probability of 0.30 alone."


@pytest.mark.parametrize("image", [A, V], ids=["train", "val"])
@pytest.mark.parametrize("action", ["relabel", "drop", "look", ""])
def test_a_persons_decision_wins(image: SourceImage, action: str) -> None:
    options: dict[str, Any] = {"splits": ["train", "val"], "doubt_confidence": 0.5}
    issues = {image.filename: issue(image, action)}
    for decision, new_label, expected in (
        ("keep", "", Outcome(image, image.split, "i", "person")),
        ("relabel", "v", Outcome(image, image.split, "v", "person")),
        ("drop", "", Outcome(image, "", "", "person")),
    ):
        assert planned([image], issues, [person(image, decision, new_label)], **options)[image.filename] == expected


def test_a_copy_gets_the_label_that_a_person_gave_its_twin() -> None:
    copy = image("train/i/copy.png", A.filename)
    found = planned([A, copy], {copy.filename: issue(copy, "drop")}, [person(A, "relabel", "v")], duplicates="keep")
    assert (found[copy.filename].label, found[copy.filename].decided_by) == ("v", "person")


# --- duplicates --------------------------------------------------------------------------------


def near(*images: SourceImage, **changed: Any) -> dict[str, Issue]:
    """Issues that put these images into one group, by rank."""
    return {image.filename: issue(image, "keep_one", 1.0, 7, rank=rank, **changed) for rank, image in enumerate(images)}


def test_of_copies_the_best_stays() -> None:
    orders = [CopyOrder(-100, False, -20), CopyOrder(-100, True, -90), CopyOrder(-100, True, -80)]
    for better, worse in pairwise(orders):
        found = planned([A._replace(copy_order=worse), B._replace(copy_order=better)], near(A, B))
        assert [found[image.filename].action for image in (A, B)] == ["dropped", "kept"]


def test_of_copies_that_are_as_good_the_first_by_name_stays() -> None:
    """The audit puts first what is to be looked at, such as the one whose ink is cut."""
    for ranked in ((A, B), (B, A)):
        found = planned([A, B], near(*ranked))
        assert found[A.filename].action == "kept"
        assert found[B.filename] == Outcome(B, "", "", "duplicate", "train/i/a.png is the same picture.")


def test_duplicates_stay_on_request() -> None:
    found = planned([A, B], near(A, B), duplicates="keep")
    assert [found[image.filename].action for image in (A, B)] == ["kept", "kept"]


def test_what_a_person_keeps_is_no_duplicate() -> None:
    found = planned([A, B], near(A, B), [person(B, "keep")])
    assert [found[image.filename].action for image in (A, B)] == ["dropped", "kept"]
    found = planned([A, B], near(A, B), [person(A, "keep"), person(B, "keep")])
    assert [found[image.filename].action for image in (A, B)] == ["kept", "kept"]


def test_a_dropped_image_does_not_stand_for_its_group() -> None:
    found = planned([A, B], near(A, B), [person(A, "drop")])
    assert [found[image.filename].action for image in (A, B)] == ["dropped", "kept"]


def test_of_two_labels_the_likelier_stays() -> None:
    other = image("train/v/other.png")
    issues = near(A, other)
    issues[other.filename] = issues[other.filename]._replace(label_probability=0.8)
    found = planned([A, other], issues)
    assert found[A.filename].why == "train/v/other.png is the same picture, as v."
    assert found[other.filename].action == "kept"


def test_of_two_labels_the_one_that_was_not_judged_goes() -> None:
    other = image("train/v/other.png")
    issues = near(A, other)
    unjudged = {"prediction": "", "probability": None, "label_probability": None}
    issues[other.filename] = issues[other.filename]._replace(**unjudged)
    found = planned([A, other], issues)
    assert [found[each.filename].action for each in (A, other)] == ["kept", "dropped"]


@pytest.mark.parametrize("duplicates", ["drop", "keep"])
def test_a_picture_of_val_leaves_train(duplicates: str) -> None:
    twin = image("train/v/twin.png")
    found = planned([twin, V], near(twin, V), duplicates=duplicates)
    assert found[V.filename].action == "kept"
    assert found[twin.filename] == Outcome(twin, "", "", "duplicate", "The same picture is in val: val/i/a.png.")


def test_identical_files_are_found_without_a_group() -> None:
    twin = image("train/v/twin.png", V.filename)
    assert planned([twin, V], splits=["val"])[twin.filename].action == "dropped"


def test_a_picture_of_val_leaves_train_although_it_is_dropped_there() -> None:
    """The untouched val measures the next model too."""
    found = planned([A, V], {**near(A, V), V.filename: issue(V, "drop", group=7)}, splits=["val"])
    assert [found[image.filename].action for image in (A, V)] == ["dropped", "dropped"]
    assert planned([A, V], near(A, V), [person(V, "drop")])[A.filename].action == "dropped"


def test_a_person_may_prefer_train_to_val() -> None:
    found = planned([A, V], near(A, V), [person(V, "drop"), person(A, "keep")])
    assert [found[image.filename].action for image in (A, V)] == ["kept", "dropped"]
    found = planned([A, V], near(A, V), [person(A, "relabel", "v")])
    assert [found[image.filename].action for image in (A, V)] == ["dropped", "kept"]


def test_a_file_of_test_leaves_train_whatever_was_decided() -> None:
    test = image("test/v/x.png", A.filename)
    found = planned([A, test], people=[person(A, "keep")])
    assert found[A.filename] == Outcome(A, "", "", "duplicate", "The same file is in test: test/v/x.png.")
    assert found[test.filename].action == "kept"


# --- val images that move to train -------------------------------------------------------------


VAL = [image(f"val/i/{number}.png") for number in range(60)]
OF_VAL = {each.filename: each for each in [*VAL, REST[2]]}  # all of the class i
MOVED_WHY = "It is of the share of val that moves to train, 0.5."


def moved_of(found: dict[str, Outcome]) -> set[str]:
    return {name for name, outcome in found.items() if name.startswith("val/") and outcome.split == "train"}


def test_a_share_of_val_moves_and_is_no_change_of_the_policy() -> None:
    found = planned(VAL, val_to_train=0.5, most_dropped=0.0)
    moved = moved_of(found)
    assert 15 < len(moved) < 45
    for each in OF_VAL.values():
        expected = ("train", "i", "split", MOVED_WHY) if each.filename in moved else ("val", "i", "", "")
        assert found[each.filename] == Outcome(each, *expected)
    assert moved == moved_of(planned(VAL, val_to_train=0.5, splits=[]))
    others = moved_of(planned(VAL, val_to_train=0.5, seed=2))
    assert (moved & others, len(moved | others)) == (set(), 61)


def test_the_policy_treats_what_moves_as_train() -> None:
    everything = {name: issue(each) for name, each in OF_VAL.items()}
    moved = sorted(moved_of(planned(VAL, everything, val_to_train=0.5)))
    left = min(OF_VAL.keys() - set(moved))
    doubts = {
        name: everything[name]._replace(action=action, new_label=new_label)
        for name, action, new_label in (
            (moved[0], "relabel", "v"),
            (moved[1], "drop", ""),
            (moved[2], "look", ""),
            (left, "drop", ""),
        )
    }
    found = planned(VAL, {**everything, **doubts}, val_to_train=0.5)
    assert found[moved[0]][1:] == ("train", "v", "policy", f"because {MOVED_WHY}")
    assert (found[moved[0]].action, found[moved[0]].is_relabelled) == ("moved", True)
    assert found[moved[1]][1:] == ("", "", "policy", "because")
    assert found[moved[2]][1:] == ("train", "i", "split", MOVED_WHY)
    assert found[left][1:] == ("val", "i", "", "")
    assert moved_of(found) == set(moved) - {moved[1]}
    of_val = planned(VAL, {**everything, **doubts}, val_to_train=0.5, splits=["val"])
    assert (of_val[moved[1]].action, of_val[left].action) == ("moved", "dropped")


def test_what_people_decided_about_an_image_that_moves_stays_decided() -> None:
    first, second, *_ = sorted(moved_of(planned(VAL, val_to_train=0.5)))
    found = planned(
        VAL, people=[person(OF_VAL[first], "relabel", "v"), person(OF_VAL[second], "drop")], val_to_train=0.5
    )
    assert found[first][1:] == ("train", "v", "person", MOVED_WHY)
    assert found[second][1:] == ("", "", "person", "")


@pytest.mark.parametrize("duplicates", ["drop", "keep"])
def test_copies_move_together(duplicates: str) -> None:
    first = OF_VAL[min(moved_of(planned(VAL, val_to_train=0.5)))]
    copy = first._replace(filename="val/i/copy.png")
    found = planned([*VAL, copy], near(first, copy), val_to_train=0.5, duplicates=duplicates)
    assert found[first.filename].split == "train"
    assert found[copy.filename].split == ("" if duplicates == "drop" else "train")


def test_near_duplicates_stay_in_val() -> None:
    """Once they are images of train, a later turn may drop one, and a comparison would measure on it."""
    moved = moved_of(planned(VAL, val_to_train=0.5))
    first, second = (OF_VAL[name] for name in sorted(moved)[:2])
    found = planned(VAL, near(first, second), val_to_train=0.5)
    assert [found[each.filename] for each in (first, second)] == [Outcome(each, "val", "i") for each in (first, second)]
    assert moved_of(found) == moved - {first.filename, second.filename}


def test_what_the_policy_drops_of_the_moved_images_counts_for_train() -> None:
    train = [image(f"train/i/more-{number}.png") for number in range(9)]
    moved = sorted(moved_of(planned(VAL, val_to_train=0.5)))
    doubts = {name: issue(OF_VAL[name], "drop") for name in moved[: len(moved) // 2]}
    message = f"would drop {len(doubts)} of the {10 + len(moved)} images of the class i in train"
    with pytest.raises(UserError, match=message):
        planned([*VAL, *train], doubts, val_to_train=0.5)
    doubts = {name: issue(OF_VAL[name], "drop") for name in moved}
    message = f"would relabel or drop {len(moved)} of the {2 + len(moved)} images of train, so the audit has learned"
    with pytest.raises(UserError, match=message):
        planned(VAL, doubts, val_to_train=0.5)


# --- every class in train and val --------------------------------------------------------------


def test_a_class_without_val_images_gets_some_of_train() -> None:
    train = [image(f"train/i/{number}.png") for number in range(9)]
    twins = near(*train[:4])
    found = planned(train, twins, [person(REST[2], "drop")], duplicates="keep")
    moved = [outcome for outcome in found.values() if outcome.action == "moved"]
    assert MOVED * 10 <= len(moved) < 10
    assert {(outcome.split, outcome.label, outcome.decided_by) for outcome in moved} == {("val", "i", "split")}
    assert {outcome.why for outcome in moved} == {"val had no i left."}
    assert len({found[image.filename].split for image in train[:4]}) == 1
    assert found["train/v/rest.png"].action == "kept"


def test_what_people_disagree_about_does_not_fill_val() -> None:
    """It would count as decided, and the next turn would not know that they disagree."""
    train = [image(f"train/i/{number}.png") for number in range(3)]
    for undisputed in train:
        others = [each for each in [REST[0], *train] if each is not undisputed]
        found = planned(train, people=[person(REST[2], "drop")], disagreements=disputed(*others))
        assert [name for name, outcome in found.items() if outcome.action == "moved"] == [undisputed.filename]
        for each in others:
            assert found[each.filename] == Outcome(each, "train", "i", "", "Undecided: anna keep, ben drop.")
    with pytest.raises(UserError, match="no image of the class i in val; add images of it, decide differently"):
        planned(train, people=[person(REST[2], "drop")], disagreements=disputed(REST[0], *train))


def test_a_class_that_curation_would_empty_is_named() -> None:
    for decisions in ([person(REST[0], "drop"), person(REST[2], "drop")], [person(REST[0], "relabel", "v")]):
        with pytest.raises(UserError, match="no image of the class i in train; add images"):
            planned([], people=decisions)
    with pytest.raises(UserError, match="no image of the class i in val; add images"):
        planned([A], near(A, REST[0]), [person(REST[2], "drop")], duplicates="keep")


# --- whatever the input ------------------------------------------------------------------------


@st.composite
def versions(draw: st.DrawFn) -> tuple[list[SourceImage], dict[str, Issue], Settlement, Policy]:
    images = [
        image(
            f"{draw(st.sampled_from(['train', 'train', 'val', 'test']))}/{draw(st.sampled_from(CLASSES))}/{number}",
            content,
        )
        for number, content in enumerate(draw(st.lists(st.sampled_from([*"abcdefghij", ""]), max_size=25)))
    ]
    always = [*REST[:2], *(image(f"train/{name}/more.png") for name in CLASSES)]
    images += always if draw(st.booleans()) else [*always, *REST[2:]]  # a class may be missing in val, not in train
    audited = [image for image in images if image.split != "test"]
    free = {image.sha256 for image in audited if image not in always and image not in REST}
    groups = {image.sha256: draw(st.sampled_from([None, None, 1, 2])) for image in audited if image.sha256 in free}
    issues = {image.filename: issue(image, label_probability=1.0) for image in audited}
    audited = [image for image in audited if image.sha256 in free]
    issues |= {
        image.filename: issue(
            image,
            draw(st.sampled_from(["relabel", "drop", "look", "keep_one", "", ""])),
            draw(st.sampled_from([0.3, 0.6, 0.9, 1.0])),
            groups[image.sha256],
            rank=draw(st.integers(1, 99)),
            label_probability=draw(st.sampled_from([None, 0.05, 0.45, 0.95])),
        )
        for image in audited
    }
    words = {image.sha256: draw(st.sampled_from(["keep", "drop", "i", "v", ""])) for image in audited}
    others = {sha256: draw(st.sampled_from([word, word, "drop", "i", ""])) for sha256, word in words.items()}
    reviews: dict[str, dict[str, Decision]] = {"anna": {}, "ben": {}}
    for each, (reviewer, said) in itertools.product(audited, zip(reviews, (words, others), strict=True)):
        word = said[each.sha256]
        if word in CLASSES:
            is_new = each.label != word
            reviews[reviewer][each.filename] = person(each, "relabel" if is_new else "keep", word if is_new else "")
        elif word == "drop":
            reviews[reviewer][each.filename] = person(each, "drop")
    people = settle_decisions(reviews, Voting("majority", ""))
    thresholds = st.sampled_from([0.0, 0.5, 0.9, 2.0])
    splits = draw(st.sampled_from([[], ["train"], ["val"], ["train", "val"]]))
    policy = Policy(
        splits,
        draw(thresholds),
        draw(thresholds),
        draw(thresholds),
        draw(st.sampled_from(["drop", "keep"])),
        1.0,
        draw(st.sampled_from([0.0, 0.5, 0.99])),
        draw(st.integers(0, 3)),
    )
    return images, issues, people, policy


def test_a_policy_that_would_drop_more_than_a_fifth_of_a_class_stops() -> None:
    images = [image(f"train/i/{number}.png") for number in range(29)]  # and REST, which has one more
    doubted = {each.filename: issue(each, "drop", 1.0) for each in images[:7]}
    sentence = (
        r"^the policy would drop 7 of the 30 images of the class i in train, more than most_dropped allows, 0.2; decide"
        " about them on the review page, raise the confidences of the policy, keep duplicates with duplicates=keep, or"
        r" raise most_dropped\.$"
    )
    with pytest.raises(UserError, match=sentence):
        planned(images, doubted)
    assert Counter(outcome.action for outcome in planned(images, doubted, most_dropped=0.25).values())["dropped"] == 7
    decided = [person(images[0], "drop")]
    assert Counter(outcome.action for outcome in planned(images, doubted, decided).values())["dropped"] == 7


def test_a_policy_may_be_kept_from_dropping_anything() -> None:
    images = [image(f"train/i/{number}.png") for number in range(29)]
    doubted = {images[0].filename: issue(images[0], "drop", 1.0)}
    with pytest.raises(UserError, match="drop 1 of the 30 images of the class i in train, more than most_dropped"):
        planned(images, doubted, most_dropped=0.0)


@pytest.mark.parametrize(("of_class", "most"), [(5, 2), (7, 3), (13, 5), (24, 5), (25, 5), (30, 6)])
def test_of_a_small_class_some_images_are_no_sign_of_a_wrong_policy(of_class: int, most: int) -> None:
    images = [image(f"train/i/{number}.png") for number in range(of_class - 1)]  # and REST
    for count in (most, most + 1):
        doubted = {each.filename: issue(each, "drop", 1.0) for each in images[:count]}
        if count > most:
            with pytest.raises(UserError, match=f"drop {count} of the {of_class} images of the class i in train"):
                planned(images, doubted)
        else:
            outcomes = planned(images, doubted).values()
            assert Counter(outcome.action for outcome in outcomes)["dropped"] == count


@pytest.mark.parametrize("kind", ["near_duplicate", "exact_duplicate"])
def test_near_duplicates_count_as_dropped_by_the_policy_but_exact_copies_do_not(kind: str) -> None:
    images = [image(f"train/i/{number}.png", "one" if kind == "exact_duplicate" else "") for number in range(9)]
    found = {each.filename: issue(each, "keep_one", 1.0, 1, kinds=(kind,)) for each in images}
    if kind == "near_duplicate":
        with pytest.raises(UserError, match="the policy would drop 8 of the 10 images of the class i in train"):
            planned(images, found)
    else:
        assert Counter(outcome.action for outcome in planned(images, found).values())["dropped"] == 8


@given(versions(), st.randoms())
def test_rules_hold_for_whatever_version(version: tuple, lottery: Any) -> None:
    images, issues, people, policy = version
    check_policy(policy)
    inputs: dict[str, Any] = {"issues": issues, "people": people, "policy": policy, "classes": CLASSES}
    with patch("components.curate.moving.LEAST_OF_CLASS", 1), patch("components.curate.planning.MOST_CHANGED", 1.0):
        outcomes = plan_outcomes(images, **inputs)
        shuffled = lottery.sample(images, len(images))
        assert plan_outcomes(shuffled, **inputs) == outcomes
    assert [outcome.image for outcome in outcomes] == sorted(images)
    counts = Counter((outcome.split, outcome.label) for outcome in outcomes)
    assert all(counts[split, name] for split in ("train", "val") for name in CLASSES)

    def pictures(split: str) -> set[str | int]:
        inside = [outcome.image for outcome in outcomes if outcome.split == split]
        groups = {issues[image.filename].group for image in inside if image.filename in issues}
        return {group for group in groups if group is not None} | {image.sha256 for image in inside}

    check_moved(outcomes, issues, policy)
    assert not pictures("train") & pictures("val")
    assert not pictures("train") & pictures("test")
    for outcome in outcomes:
        filename = outcome.image.filename
        check_outcome(outcome, people.decisions.get(filename), issues.get(filename), policy)
        if filename in people.undecided:
            assert outcome.decided_by in ("", "duplicate")
            assert outcome.label == outcome.image.label or (outcome.decided_by, outcome.image.split) == (
                "duplicate",
                "train",  # the same picture is in val or test
            )


def may_be_changed(issue: Issue, policy: Policy) -> bool:
    is_doubted = issue.label_probability is not None and 1 - issue.label_probability > policy.doubt_confidence
    return issue.action in ("relabel", "drop", "look") or is_doubted


def check_outcome(outcome: Outcome, decision: Decision | None, issue: Issue | None, policy: Policy) -> None:
    before = outcome.image.split
    assert (outcome.split == "") == (outcome.label == "")
    assert outcome.split in ("", before) or {before, outcome.split} == {"train", "val"}
    if before == "test":
        assert outcome == Outcome(outcome.image, "test", outcome.image.label)
    if outcome.decided_by == "policy":
        assert decision is None
        assert before in policy.splits or (policy.val_to_train and "train" in policy.splits)
        assert issue is not None
        assert may_be_changed(issue, policy)
    if decision is not None and decision.decision == "drop":
        assert outcome.split == ""
    elif decision is not None and outcome.split:
        assert outcome.label == (decision.new_label or decision.label)
    elif decision is not None:
        assert outcome.decided_by == "duplicate"  # of an image in val or test
        assert before == "train"
    if before == "val" and not (policy.splits or policy.val_to_train) and outcome.decided_by != "person":
        assert outcome.action == "kept"


def check_moved(outcomes: list[Outcome], issues: dict[str, Issue], policy: Policy) -> None:
    """By their bytes alone, train of the new version tells all pictures that came from val; no other is like them."""
    moved = [outcome for outcome in outcomes if outcome.image.split == "val" and outcome.split == "train"]
    assert policy.val_to_train or not moved
    learned = {issues[outcome.image.filename].group: outcome.image.sha256 for outcome in moved}
    for outcome in outcomes:
        group = issues[outcome.image.filename].group if outcome.image.filename in issues else None
        if group is not None and group in learned:
            assert (outcome.image.split, outcome.image.sha256) == ("val", learned[group])
    for outcome in moved:
        assert outcome.why.endswith(f"It is of the share of val that moves to train, {policy.val_to_train:g}.")
        assert outcome.decided_by in ("split", "policy", "person")
        assert outcome.is_relabelled or outcome.decided_by != "policy"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"val_to_train": -0.1}, "val_to_train is -0.1; it must be 0 or more and below 1"),
        ({"val_to_train": 1.0}, "val_to_train is 1.0; it must be 0 or more and below 1"),
        ({"val_to_train": float("nan")}, "val_to_train is nan; it must be 0 or more and below 1"),
        ({"splits": ["test"]}, "policy_splits has 'test'; it may hold train and val"),
        ({"relabel_confidence": -0.1}, "relabel_confidence is -0.1; it must be 0 or more"),
        ({"drop_confidence": float("nan")}, "drop_confidence is nan; it must be 0 or more"),
        ({"doubt_confidence": -1.0}, "doubt_confidence is -1.0; it must be 0 or more"),
        ({"most_dropped": -0.1}, "most_dropped is -0.1; it must be from 0 to 1"),
        ({"most_dropped": float("nan")}, "most_dropped is nan; it must be from 0 to 1"),
        ({"duplicates": "some"}, "duplicates is 'some'; it must be drop or keep"),
    ],
)
def test_settings_out_of_range_are_named(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_policy(ALWAYS._replace(**changed))
