"""What the folders of a data set must be: train/<class>/, val/<class>/ and perhaps test/<class>/."""

from typing import NamedTuple

from components.ingest.opening import open_source
from components.ingest.sources import Child, Source
from components.shared.errors import UserError
from components.shared.formats.examples import SPLITS


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
    data = open_source(data_uri, ignored=ignored)
    splits = _find_splits(data, test_data_uri, ignored)
    children = {split.name: _list_classes(split) for split in splits}
    names = classes or sorted({child.name for found in children.values() for child in found})
    if len(names) > len(set(names)):
        raise UserError(f"classes is {', '.join(names)}; each name may appear only once.")
    for split in splits:
        _check_class_folders(split, children[split.name], names)
    return Layout(data, splits, names)


def _find_splits(data: Source, test_data_uri: str, ignored: frozenset[str]) -> list[Split]:
    found = data.list_children()
    if found is None:
        raise UserError(
            f"{data.join_address()}: no such folder; data_uri names a folder with train/<class>/ and val/<class>/."
        )
    folders = {child.name: child for child in found if child.is_folder}
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
    if not children:
        raise UserError(
            f"{split.join_address()}: the {split.name} split has no images; it needs one sub-folder per class."
        )
    return children


def _check_class_folders(split: Split, children: list[Child], names: list[str]) -> None:
    for child in children:
        address = split.join_address(child.name)
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
