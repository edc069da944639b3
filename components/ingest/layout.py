"""What the folders of a data set must be: class folders, within splits or to be divided into them."""

import unicodedata
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from typing import NamedTuple

from components.ingest.augmented import AugmentedImages, read_augmented
from components.ingest.opening import open_source
from components.ingest.sources import Child, Part, Source
from components.shared.errors import UserError, quote
from components.shared.formats.examples import SPLITS
from components.shared.formats.guideline import FILE as GUIDELINE
from components.shared.formats.image_table import is_table_name
from components.shared.formats.manifest import FILE as MANIFEST
from components.shared.formats.names import (
    NAME_ADVICE,
    SPLIT_NAMES,
    has_image_suffix,
    is_passed_over,
    is_plain_name,
    sort_classes,
)

# Hidden folders that systems and tools make beside people's, as fnmatch takes them; any other may be a class whose name
# begins with a dot.
SYSTEMS = (  # macOS, also on network shares; Linux; network storage and what keeps folders alike
    *("._*", ".AppleDB", ".AppleDesktop", ".AppleDouble", ".DocumentRevisions-V100", ".Spotlight-V100"),
    *(".TemporaryItems", ".Trashes", ".fseventsd", ".Trash", ".Trash-*", ".cache", ".thumbnails"),
    *(".@__thumb", ".recycle", ".snapshot", ".snapshots", ".dropbox.cache", ".stfolder", ".stversions"),
)
TOOLS = (  # editors and notebooks; versions of code and data, and where they are kept; Python
    *(".history", ".idea", ".ipynb_checkpoints", ".settings", ".vs", ".vscode"),
    *(".bzr", ".circleci", ".dvc", ".git", ".github", ".gitlab", ".hg", ".jj", ".svn"),
    *(".hypothesis", ".mypy_cache", ".nox", ".pytest_cache", ".ruff_cache", ".tox", ".venv"),
)


class Split(NamedTuple):
    """One of train, val and test, or images that are to be divided into these."""

    name: str  # empty if the images are to be divided
    source: Source
    folders: tuple[str, ...]  # where its class folders are in its data set

    def join_address(self, *folders: str) -> str:
        """The address of a folder of the split, as messages name it."""
        return self.source.join_address(*self.folders, *folders)


class Layout(NamedTuple):
    """The splits of a data set, and its classes."""

    data: Source
    splits: list[Split]  # as they are found
    classes: list[str]  # in the order of their labels
    augmented: AugmentedImages
    has_guideline: bool  # whether the data have one

    @property
    def test(self) -> Source | None:
        """The test data, if they come from a place of their own."""
        return next((split.source for split in self.splits if split.source is not self.data), None)

    @property
    def sources(self) -> list[Source]:
        """The data set, and the test data if they are another one."""
        return [self.data, self.test] if self.test else [self.data]

    @property
    def is_divided(self) -> bool:
        """Whether all images have a split."""
        return all(split.name for split in self.splits)

    def list_parts(self, source: Source) -> list[Part]:
        """The class folders of a source."""
        return [
            Part((*split.folders, name), split.name, name)
            for split in self.splits
            if split.source is source
            for name in self.classes
        ]


def read_layout(data_uri: str, test_data_uri: str, classes: list[str], ignored: frozenset[str] = frozenset()) -> Layout:
    """Looks at the folders of a data set, not at its images.

    Args:
        data_uri: As in open_source; it has the splits train, val and perhaps test, or class folders alone.
        test_data_uri: As in open_source; the class folders of the test split, or empty.
        classes: The names of the classes in the order of their labels; empty takes the folders' names, in the order of
            sort_classes.
        ignored: The names of files and folders of disks, split/class/file, that are no part of the data set.

    Returns:
        The splits and the classes.

    Raises:
        UserError: A folder is missing, empty or unexpected, or exists in one split only.
    """
    for name in classes:
        if not isinstance(name, str):  # the Kubeflow Pipelines UI takes any JSON
            raise UserError(f"classes holds {quote(name)}, which is no text; put class names in quotes.")
    data = open_source(data_uri, ignored=ignored)
    top = data.list_children()
    splits = _find_splits(data, top, test_data_uri, ignored)
    children = [(split, _list_classes(split)) for split in splits]
    _check_spellings(children, classes)
    names = classes or sort_classes({child.name for _, found in children for child in found if child.is_folder})
    if len(names) > len(set(names)):
        raise UserError(f"classes is {', '.join(names)}; each name may appear only once.")
    for split, found in children:
        _check_class_folders(split, found, names)
    _check_same_classes(children, names)
    if len(names) < 2 and any(not split.folders and not split.name for split in splits):
        raise UserError(
            f"{data.join_address()}: {', '.join(names)} is its only class, but a model needs two to tell apart; name "
            "the folder that has a folder for each class."
        )
    has_manifest = any(child.name == MANIFEST for child in top or ())
    augmented = read_augmented(data, has_manifest=has_manifest)
    return Layout(data, splits, names, augmented, has_guideline=data.has_file(GUIDELINE))


def _find_splits(data: Source, found: list[Child] | None, test_data_uri: str, ignored: frozenset[str]) -> list[Split]:
    if found is None:
        raise UserError(
            f"{data.join_address()}: no such folder; data_uri names a folder with train/<class>/ and val/<class>/, or "
            "with a folder for each class."
        )
    splits = _name_splits(data, [child for child in found if child.is_folder and not _is_passed_over(child)])
    if test_data_uri:
        own = next((split for split in splits if split.name == "test"), None)
        if own:
            raise UserError(
                f"{own.join_address()}: the data has a test split already; leave out test_data_uri {test_data_uri}."
            )
        test = Split("test", open_source(test_data_uri, "test", ignored), ())
        _check_no_splits(test)
        splits.append(test)
    return splits


def _name_splits(data: Source, folders: list[Child]) -> list[Split]:
    """The splits that the folders of a data set are; if they are classes, one without a name."""
    names = {child.name: SPLIT_NAMES.get(child.name.lower(), "") for child in folders}
    # A class may have the name of a split, such as `train` among vehicles: what lies in a class folder are images.
    is_mixed = not all(names.values())
    if not names or (is_mixed and not any(_has_folders(data, name) for name, split in names.items() if split)):
        return [Split("", data, ())]
    for child in folders:
        if not names[child.name]:
            raise UserError(
                f"{data.join_address(child.name)}: not a split; the folders of a data set are {', '.join(SPLITS)}, or "
                "the class folders alone."
            )
        if child.is_link:
            raise UserError(f"{data.join_address(child.name)}: the split is a link; put the images themselves there.")
    places: dict[str, str] = {}
    for name, split in names.items():
        if places.setdefault(split, name) != name:
            raise UserError(
                f"{data.join_address(places[split])} and {data.join_address(name)}: both are {split}; make one of them."
            )
    # Without val, a part of train becomes val.
    undivided = () if "val" in places else ("train",)
    return [
        Split("" if split in undivided else split, data, (places.get(split, split),))
        for split in SPLITS
        if split in places or split == "train"
    ]


def _has_folders(data: Source, name: str) -> bool:
    return any(child.is_folder and not _is_passed_over(child) for child in data.list_children(name) or [])


def _check_no_splits(test: Split) -> None:
    """Refuses a whole data set for a test split."""
    children = [child.name for child in test.source.list_children() or []]
    if children and {name.lower() for name in children} <= SPLIT_NAMES.keys():
        raise UserError(
            f"{test.join_address()}: holds {', '.join(sorted(children))}, where class folders must be; give one of"
            " these folders as test data."
        )


def _list_classes(split: Split) -> list[Child]:
    children = split.source.list_children(*split.folders)
    name = f"the {split.name or 'train'} split" if split.folders or split.name else "the data"
    if children is None:
        raise UserError(f"{split.join_address()}: no such folder; {name} needs one sub-folder per class there.")
    for child in children:
        if child.is_folder and child.name.startswith(".") and not _is_of_a_tool(child.name):
            raise UserError(
                f"{split.join_address(child.name)}: a folder whose name begins with a dot is hidden, and so no class;"
                " rename it or move it out of the data set."
            )
    children = [child for child in children if not _is_passed_over(child) and not _is_guideline(split, child)]
    if not children:
        raise UserError(f"{split.join_address()}: {name} has no images; it needs one sub-folder per class.")
    return children


def _is_guideline(split: Split, child: Child) -> bool:
    """Whether a file in the root of the data is no image but says how to label."""
    return not split.folders and not split.source.prefix and child.name == GUIDELINE and not child.is_folder


def _is_of_a_tool(name: str) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in (*SYSTEMS, *TOOLS))


def _is_passed_over(child: Child) -> bool:
    return is_passed_over(child.name, is_folder=child.is_folder)


def _check_spellings(children: list[tuple[Split, list[Child]]], classes: list[str]) -> None:
    """Refuses two names that look alike: Unicode has an é of one character, and one of an e and an accent."""
    places = {name: f"classes has {name}" for name in classes}
    for split, found in children:
        for child in found:
            places.setdefault(child.name, split.join_address(child.name))
    seen: dict[str, str] = {}
    for name, place in places.items():
        other = seen.setdefault(unicodedata.normalize("NFC", name), name)
        if other != name:
            raise UserError(
                f"{places[other]} and {place}: two spellings of one name, {ascii(other)} and {ascii(name)}, since"
                " Unicode has several for letters with accents; rename one as the other is."
            )


def _check_class_folders(split: Split, children: list[Child], names: list[str]) -> None:
    for child in children:
        address = split.join_address(child.name)
        if not is_plain_name(child.name):
            raise UserError(f"{ascii(address)}: the name {NAME_ADVICE}.")
        if not child.is_folder:
            is_table = is_table_name(child.name)
            hint = "; if it is the table of the images, name it in place of the folder" if is_table else ""
            if not split.name and not split.folders and not any(other.is_folder for other in children):
                raise UserError(
                    f"{split.join_address()}: holds files where a folder for each class must be; if it is the folder of"
                    f" one class, name the folder that contains it{hint}."
                )
            advice = "move it into one of them or remove it"
            if PurePosixPath(child.name).suffix and not has_image_suffix(child.name):
                advice = "remove it, or let its name begin with README, as that of a file which is none of the images"
            raise UserError(f"{address}: lies beside the class folders; {advice}{hint}.")
        if child.is_link:
            raise UserError(f"{address}: the class folder is a link; put the images themselves there.")
        if child.name not in names:
            raise UserError(
                f"{address}: not one of the classes {', '.join(names)}; rename it, or list it as well, in --param "
                "classes=[...] or as `classes` of ingest in pipelines/config; an empty list takes what the data has."
            )


def _check_same_classes(children: list[tuple[Split, list[Child]]], names: list[str]) -> None:
    """Checks that every split has every class."""
    for split, found in children:
        missing = sorted(set(names) - {child.name for child in found}, key=names.index)
        if missing:
            having = [other for other, there in children if missing[0] in {child.name for child in there}]
            where = f"{having[0].join_address(missing[0])} has images of it" if having else "`classes` lists it"
            others = "1 other class" if len(missing) == 2 else f"{len(missing) - 1:,} other classes"
            more = f", nor of {others}" if len(missing) > 1 else ""
            advice = "remove it there" if having else "take it from `classes`"
            raise UserError(
                f"{split.join_address(missing[0])}: no such folder{more}, but {where}; every split needs each class, so"
                f" add images of it here, or {advice}."
            )
