"""What the folders of a data set must be: train/<class>/, val/<class>/ and perhaps test/<class>/."""

from typing import NamedTuple

from components.ingest.sources import Child, Source, open_source
from components.shared.errors import UserError
from components.shared.formats.examples import SPLITS


class Split(NamedTuple):
    name: str
    source: Source
    folders: tuple[str, ...]  # where the split is in its data set

    def address(self, *folders: str) -> str:
        return self.source.address(*self.folders, *folders)


class Layout(NamedTuple):
    data: Source
    splits: list[Split]
    classes: list[str]  # in the order of their labels

    @property
    def sources(self) -> list[Source]:
        return [self.data, *(split.source for split in self.splits if split.source is not self.data)]


def read_layout(data_uri: str, test_data_uri: str, classes: list[str]) -> Layout:
    """The splits of the data set and its classes; `classes` fixes their order, empty means their names sorted.

    Raises:
        UserError: a folder is missing, empty or unexpected, or exists in one split only.
    """
    data = open_source(data_uri)
    splits = _splits(data, data_uri, test_data_uri)
    children = {split.name: _children(split) for split in splits}
    names = classes or sorted({child.name for found in children.values() for child in found})
    if len(names) > len(set(names)):
        raise UserError(f"classes is {', '.join(names)}; each name may be there once.")
    for split in splits:
        _check_class_folders(split, children[split.name], names)
    return Layout(data, splits, names)


def _splits(data: Source, data_uri: str, test_data_uri: str) -> list[Split]:
    found = data.children()
    if found is None:
        raise UserError(
            f"{data.address()}: no such folder; data_uri names a folder with train/<class>/ and val/<class>/."
        )
    folders = {child.name: child for child in found if child.is_folder}
    for name, child in folders.items():
        if name not in SPLITS:
            raise UserError(f"{data.address(name)}: not a split; the folders of a data set are {', '.join(SPLITS)}.")
        if child.is_link:
            raise UserError(f"{data.address(name)}: the split is a link; put the images themselves there.")
    splits = [Split(name, data, (name,)) for name in SPLITS if name != "test" or name in folders]
    if test_data_uri:
        if "test" in folders:
            raise UserError(
                f"{data.address('test')}: the data has a test split already; leave out test_data_uri {test_data_uri}."
            )
        splits.append(Split("test", open_source(test_data_uri, prefix="test"), ()))
    return splits


def _children(split: Split) -> list[Child]:
    children = split.source.children(*split.folders)
    if children is None:
        raise UserError(
            f"{split.address()}: no such folder; the {split.name} split needs one sub-folder per class there."
        )
    if not children:
        raise UserError(f"{split.address()}: the {split.name} split has no images; it needs one sub-folder per class.")
    return children


def _check_class_folders(split: Split, children: list[Child], names: list[str]) -> None:
    for child in children:
        address = split.address(child.name)
        if not child.is_folder:
            raise UserError(f"{address}: lies beside the class folders; move it into one of them or remove it.")
        if child.is_link:
            raise UserError(f"{address}: the class folder is a link; put the images themselves there.")
        if child.name not in names:
            raise UserError(f"{address}: not one of the classes {', '.join(names)}; rename it or list it in `classes`.")
    for name in names:
        if name not in {child.name for child in children}:
            raise UserError(
                f"{split.address(name)}: no such folder, but the class exists elsewhere; every split needs each class."
            )
