"""What the folders of a data set must be: train/<class>/, val/<class>/ and perhaps test/<class>/."""

import unicodedata
from typing import NamedTuple

from components.ingest.opening import open_source
from components.ingest.sources import Child, Source
from components.shared.errors import UserError
from components.shared.formats.examples import SPLITS
from components.shared.formats.manifest import FILE as MANIFEST
from components.shared.formats.names import NAME_ADVICE, is_plain_name

# Hidden folders that tools make beside people's; any other may be a class whose name begins with a dot.
TOOLS = (".cache", ".dvc", ".git", ".hg", ".ipynb_checkpoints", ".svn", ".thumbnails")


class Split(NamedTuple):
    """One of train, val and test."""

    name: str
    source: Source
    folders: tuple[str, ...]  # where the split is in its data set

    def join_address(self, *folders: str) -> str:
        """The address of a folder of the split, as messages name it."""
        return self.source.join_address(*self.folders, *folders)


class Layout(NamedTuple):
    """The splits of a data set, and its classes."""

    data: Source
    splits: list[Split]
    classes: list[str]  # in the order of their labels
    is_curated: bool  # whether curate's manifest lies in the data set, so that curate made the augmented images there

    @property
    def sources(self) -> list[Source]:
        """The data set, and where else a split comes from."""
        return [self.data, *(split.source for split in self.splits if split.source is not self.data)]


def read_layout(data_uri: str, test_data_uri: str, classes: list[str], ignored: frozenset[str] = frozenset()) -> Layout:
    """Looks at the folders of a data set, not at its images.

    Args:
        data_uri: As in open_source; it has the splits train, val and perhaps test.
        test_data_uri: As in open_source; the class folders of the test split, or empty.
        classes: The names of the classes in the order of their labels; empty takes the folders' names, sorted.
        ignored: The names of files and folders of disks, split/class/file, that are no part of the data set.

    Returns:
        The splits and the classes.

    Raises:
        UserError: A folder is missing, empty or unexpected, or exists in one split only.
    """
    for name in classes:
        if not isinstance(name, str):  # the Kubeflow Pipelines UI takes any JSON
            raise UserError(f"classes holds {name!r}, which is no text; put class names in quotes.")
    data = open_source(data_uri, ignored=ignored)
    found = data.list_children()
    splits = _find_splits(data, found, test_data_uri, ignored)
    children = {split.name: _list_classes(split) for split in splits}
    _check_spellings(splits, children, classes)
    names = classes or sorted({child.name for found in children.values() for child in found})
    if len(names) > len(set(names)):
        raise UserError(f"classes is {', '.join(names)}; each name may appear only once.")
    for split in splits:
        _check_class_folders(split, children[split.name], names)
    return Layout(data, splits, names, any(child.name == MANIFEST for child in found or ()))


def _find_splits(data: Source, found: list[Child] | None, test_data_uri: str, ignored: frozenset[str]) -> list[Split]:
    if found is None:
        raise UserError(
            f"{data.join_address()}: no such folder; data_uri names a folder with train/<class>/ and val/<class>/."
        )
    folders = {child.name: child for child in found if child.is_folder and not _is_hidden(child)}
    for name, child in folders.items():
        if name not in SPLITS:
            raise UserError(
                f"{data.join_address(name)}: not a split; the folders of a data set are {', '.join(SPLITS)}."
            )
        if child.is_link:
            raise UserError(f"{data.join_address(name)}: the split is a link; put the images themselves there.")
    splits = [Split(name, data, (name,)) for name in SPLITS if name != "test" or name in folders]
    if test_data_uri:
        if "test" in folders:
            raise UserError(
                f"{data.join_address('test')}: the data has a test split already;"
                f" leave out test_data_uri {test_data_uri}."
            )
        test = Split("test", open_source(test_data_uri, "test", ignored), ())
        _check_no_splits(test)
        splits.append(test)
    return splits


def _check_no_splits(test: Split) -> None:
    """Refuses a whole data set for a test split."""
    children = [child.name for child in test.source.list_children() or []]
    if children and set(children) <= set(SPLITS):
        raise UserError(
            f"{test.join_address()}: holds {', '.join(sorted(children))}, where class folders must be; give one of"
            " these folders as test data."
        )


def _list_classes(split: Split) -> list[Child]:
    children = split.source.list_children(*split.folders)
    if children is None:
        raise UserError(
            f"{split.join_address()}: no such folder; the {split.name} split needs one sub-folder per class there."
        )
    for child in children:
        if child.is_folder and _is_hidden(child) and child.name not in TOOLS:
            raise UserError(
                f"{split.join_address(child.name)}: a folder whose name begins with a dot is hidden, and so no class;"
                " rename it or move it out of the data set."
            )
    children = [child for child in children if not _is_hidden(child)]
    if not children:
        raise UserError(
            f"{split.join_address()}: the {split.name} split has no images; it needs one sub-folder per class."
        )
    return children


def _is_hidden(child: Child) -> bool:
    return child.name.startswith(".")


def _check_spellings(splits: list[Split], children: dict[str, list[Child]], classes: list[str]) -> None:
    """Refuses two names that look alike: Unicode has an é of one character, and one of an e and an accent."""
    places = {name: f"classes has {name}" for name in classes}
    for split in splits:
        for child in children[split.name]:
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
            raise UserError(f"{address}: lies beside the class folders; move it into one of them or remove it.")
        if child.is_link:
            raise UserError(f"{address}: the class folder is a link; put the images themselves there.")
        if child.name not in names:
            raise UserError(
                f"{address}: not one of the classes {', '.join(names)}; rename it, or list your classes in"
                " pipelines/config, as `classes` of ingest, and in models/schema.pbtxt."
            )
    for name in names:
        if name not in {child.name for child in children}:
            raise UserError(
                f"{split.join_address(name)}: no such folder, but the class exists elsewhere;"
                " every split needs each class."
            )
