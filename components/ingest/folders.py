"""Which images a data set holds: the folders `train/<class>/`, `val/<class>/` and `test/<class>/`."""

import hashlib
import json
from pathlib import Path
from typing import NamedTuple

from components.examples import SPLITS
from components.files import UserError


class ImageFile(NamedTuple):
    path: Path
    root: Path  # the data set it belongs to: no link may lead out of it
    split: str
    class_name: str

    @property
    def filename(self) -> str:
        """The name that every later stage and report uses: split/class/file."""
        return f"{self.split}/{self.class_name}/{self.path.name}"


def list_images(data: str, test_data: str, classes: list[str]) -> tuple[list[ImageFile], list[str]]:
    """The images of `data` (train, val, perhaps test) and `test_data` (class folders), and the class names.

    `classes` fixes the order of the labels; empty means the names of the folders, sorted. Hidden files are ignored.

    Raises:
        UserError: a folder is missing, empty or unexpected, or exists in one split only.
    """
    splits = _split_folders(data, test_data)
    names = classes or sorted({folder.name for path in splits.values() for folder in _visible(path)})
    if len(names) > len(set(names)):
        raise UserError(f"classes is {', '.join(names)}; each name may be there once.")
    images = []
    for split, folder in splits.items():
        _check_class_folders(folder, names)
        root = folder if test_data and split == "test" else folder.parent
        for name in names:
            files = _visible(folder / name)
            if not files:
                raise UserError(f"{folder / name}: no images in this folder; add some or remove the class everywhere.")
            images += [ImageFile(path, root, split, name) for path in files]
    return images, names


def data_version(folder: str, md5s: dict[str, str]) -> str:
    """The version that DVC gives this folder: the md5 of its `.dir` manifest, so it equals the one in the `.dvc` file.

    The manifest's form is that of `dvc_data.hashfile.tree.Tree.as_bytes`. `md5s` holds what is known already, by path
    relative to the folder; the rest (hidden files, which DVC counts as well) is read.
    """
    root = Path(folder)
    entries = []
    for path in root.rglob("*"):
        if path.is_file():
            relpath = path.relative_to(root).as_posix()
            entries.append({"md5": md5s.get(relpath) or _file_md5(path), "relpath": relpath})
    entries.sort(key=lambda entry: entry["relpath"])
    return md5(json.dumps(entries, sort_keys=True).encode()) + ".dir"


def _file_md5(path: Path) -> str:
    try:
        return md5(path.read_bytes())
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror}), so the data has no version; mend it or give data_version."
        ) from None


def md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def _split_folders(data: str, test_data: str) -> dict[str, Path]:
    root = Path(data)
    if not root.is_dir():
        raise UserError(f"{root}: no such folder; data_uri names a folder with train/<class>/ and val/<class>/.")
    unknown = [folder for folder in _visible(root) if folder.is_dir() and folder.name not in SPLITS]
    if unknown:
        raise UserError(f"{unknown[0]}: not a split; the folders of a data set are {', '.join(SPLITS)}.")
    splits = {split: root / split for split in SPLITS if split != "test" or (root / split).is_dir()}
    for folder in splits.values():
        if folder.is_symlink():
            raise UserError(f"{folder}: the split is a link; put the images themselves there.")
    if test_data:
        if "test" in splits:
            raise UserError(
                f"{splits['test']}: the data has a test split already; leave out test_data_uri {test_data}."
            )
        splits["test"] = Path(test_data)
    for split, folder in splits.items():
        if not folder.is_dir():
            raise UserError(f"{folder}: no such folder; the {split} split needs one sub-folder per class there.")
        if not _visible(folder):
            raise UserError(f"{folder}: the {split} split has no images; it needs one sub-folder per class.")
    return splits


def _check_class_folders(folder: Path, names: list[str]) -> None:
    for entry in _visible(folder):
        if not entry.is_dir():
            raise UserError(f"{entry}: lies beside the class folders; move it into one of them or remove it.")
        if entry.is_symlink():
            raise UserError(f"{entry}: the class folder is a link; put the images themselves there.")
        if entry.name not in names:
            raise UserError(f"{entry}: not one of the classes {', '.join(names)}; rename it or list it in `classes`.")
    for name in names:
        if not (folder / name).is_dir():
            raise UserError(
                f"{folder / name}: no such folder, but the class exists elsewhere; every split needs each class."
            )


def _visible(folder: Path) -> list[Path]:
    try:
        paths = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise UserError(f"{folder}: cannot be read ({error.strerror}); allow the user of this run to.") from None
    for path in paths:
        if path.name != path.name.encode(errors="replace").decode():
            raise UserError(f"{ascii(str(path))}: the name is not UTF-8; rename it.")
    return paths
