"""The cache of the runs on this machine: a stage that would do again what it has done takes its outputs from there.

It stands in place of kfp.local's own, whose key knows the code by the name of an image, and what a stage takes by its
URI. Here the key is a hash of the code, the packages, and the content of all files that go in, and an output counts
only if its files are still what the stage wrote. What is taken is copied, so that each run is whole in its own folder,
whatever becomes of the others.
"""

import contextlib
import hashlib
import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from kfp import dsl
from kfp.dsl import executor
from kfp.local import cache as kfp_cache
from kfp.local.executor_input_utils import get_local_task_resource_name
from typing_extensions import TypedDict

from components.shared.cloud_storage import is_address
from components.shared.errors import UserError
from components.shared.files import lock_folder, new_directory, new_file, open_regular
from components.shared.formats.documents import read_document, write_document
from components.shared.formats.image_table import is_table_name
from pipelines.compiler.spec import FUNCTION
from pipelines.compiler.values import list_texts
from pipelines.output.project import ROOT
from pipelines.submission.preparation import DATA

FOLDER = ".cache"  # in the folder of the runs
OUTPUTS = "executor_output.json"  # in which kfp's executor describes the outputs of a task
FORMAT = 1  # of the entries; another number makes those that are there useless


class TakenTask(NamedTuple):
    """A task whose outputs were taken from the cache."""

    name: str
    made_by: str  # the run that ran it, of another experiment as EXPERIMENT/RUN
    parameters: dict[str, Any]
    inputs: dict[str, str]  # the URIs of the artifacts that it would have taken
    seconds: float  # that copying the outputs took


class _Artifact(TypedDict):
    type: str  # such as system.Dataset
    name: str
    path: str  # in the folder of the task
    metadata: dict[str, Any]


class _Entry(TypedDict):
    made_by: str  # EXPERIMENT/RUN, which ran the task
    folder: str  # of the task, in a run that has its outputs
    files: dict[str, str]  # the sha256 of each, by its path in the folder
    artifacts: dict[str, _Artifact]  # by output


class _Call(NamedTuple):
    task: str
    stage: str
    image: str
    command: list[str]
    arguments: dict[str, Any]  # values of parameters, and dsl.Artifact


class _UnknownContentError(Exception):
    """What a stage takes or has made cannot be told from its files, so it is to run."""


class StageCache:
    """The cache as one run uses it, with the methods by which kfp.local asks its own."""

    def __init__(
        self, folder: Path, identify_code: Callable[[str, str], str], on_hit: Callable[[TakenTask], None]
    ) -> None:
        """Keeps its entries beside the experiments.

        Args:
            folder: of the run.
            identify_code: a text that changes whenever what runs a stage does, by the stage and the name of its image;
                empty if that is not known.
            on_hit: is told of each task whose outputs were taken.
        """
        self._root, self._folder = folder.parent.parent / FOLDER, folder
        self._identify_code, self._on_hit = identify_code, on_hit
        self._calls: dict[str, _Call] = {}  # by key; those that cannot be told from others have none

    def compute_key(
        self, component_name: str, image: str, full_command: list[str], arguments: dict[str, Any], **unused: Any
    ) -> str:
        """The key of a task, as kfp.local asks for it."""
        task = get_local_task_resource_name(component_name)
        stage = full_command[full_command.index(FUNCTION) + 1] if FUNCTION in full_command else ""
        call = _Call(task, stage, image, full_command, arguments)
        with contextlib.suppress(_UnknownContentError, OSError):  # what cannot be read, the stage itself will name
            key = self._hash(call)
            self._calls[key] = call
            return key
        return secrets.token_hex(32)

    def get(self, key: str) -> dict[str, Any] | None:
        """The outputs of that key, copied into the folder of the run; None if they are not there or not whole."""
        started, path = time.monotonic(), self._locate(key)
        if key not in self._calls or not path.is_file():
            return None
        call = self._calls[key]
        target = self._folder / "artifacts" / "taken" / call.task
        try:
            entry = read_document(path, _Entry, "delete it")
            with new_directory(target) as temporary:
                shutil.copytree(entry["folder"], temporary, dirs_exist_ok=True)
                if _hash_files(temporary) != entry["files"]:
                    raise _UnknownContentError
                _readdress(temporary / OUTPUTS, Path(entry["folder"]), target)
            files = entry["files"] | {OUTPUTS: _hash_file(target / OUTPUTS)}
        except (UserError, OSError, _UnknownContentError):  # the run that has them is gone, or somebody has edited them
            return None
        self._write(path, {**entry, "folder": str(target), "files": files})
        parameters = {name: value for name, value in call.arguments.items() if not isinstance(value, dsl.Artifact)}
        inputs = {name: value.uri for name, value in call.arguments.items() if isinstance(value, dsl.Artifact)}
        made_by = entry["made_by"].removeprefix(f"{self._folder.parent.name}/")
        self._on_hit(TakenTask(call.task, made_by, parameters, inputs, time.monotonic() - started))
        return {name: _make_artifact(artifact, target) for name, artifact in entry["artifacts"].items()}

    def put(self, key: str, outputs: dict[str, Any]) -> None:
        """Keeps the outputs of a task that has run, if what it took is still what it was when it began."""
        call = self._calls.get(key)
        if not call or not all(isinstance(output, dsl.Artifact) for output in outputs.values()):
            return
        with contextlib.suppress(OSError, _UnknownContentError):
            (described,) = self._folder.glob(f"artifacts/*/{call.task}/{OUTPUTS}")
            if self._hash(call) == key:
                folder = described.parent
                artifacts = {name: _describe_artifact(output, folder) for name, output in outputs.items()}
                made_by = f"{self._folder.parent.name}/{self._folder.name}"
                files = _hash_files(folder)
                self._write(
                    self._locate(key), _Entry(made_by=made_by, folder=str(folder), files=files, artifacts=artifacts)
                )

    def _locate(self, key: str) -> Path:
        return self._root / f"{key}.json"

    def _write(self, path: Path, entry: _Entry) -> None:
        with contextlib.suppress(OSError), lock_folder(self._root), new_file(path) as temporary:
            write_document(temporary, entry)

    def _hash(self, call: _Call) -> str:
        """A hash of all that the outputs of a task depend on.

        Raises:
            OSError: a file cannot be read.
            _UnknownContentError: something that is read lies elsewhere.
        """
        code = self._identify_code(call.stage, call.image)
        if not code:
            raise _UnknownContentError
        arguments = {name: _describe(name, value) for name, value in call.arguments.items()}
        return _hash_text([FORMAT, code, call.command, arguments])


@contextlib.contextmanager
def use_cache(cache: StageCache) -> Iterator[None]:
    """Lets kfp.local ask this cache: a function of its module chooses its own."""
    own = kfp_cache.get_local_cache
    kfp_cache.get_local_cache = lambda: cache
    try:
        yield
    finally:
        kfp_cache.get_local_cache = own


def remove_useless_entries(runs: Path) -> None:
    """Removes the entries from which nothing can be taken any more, since the run that had the outputs is gone."""
    for path in (runs / FOLDER).glob("*.json"):
        with contextlib.suppress(UserError):
            if Path(read_document(path, _Entry, "delete it")["folder"]).is_dir():
                continue
        path.unlink(missing_ok=True)


def hash_code(stage: str) -> str:
    """A hash of the files that the project's own Python runs for a stage; empty if it is no stage of the project.

    Its contract is not among them: what is in it reaches the stage as parameters and a command.
    """
    folder = ROOT / "components" / stage
    if not stage or not folder.is_dir():
        return ""
    paths = (path for place in (folder, ROOT / "components/shared", ROOT / "models") for path in place.rglob("*"))
    files = {
        path.relative_to(ROOT).as_posix(): _hash_file(path)
        for path in paths
        if path.is_file() and path.name != "component.yaml" and "__pycache__" not in path.parts
    }
    return _hash_text(files)


def _describe(name: str, value: Any) -> Any:
    """An argument as JSON, with the content of the files that it names."""
    if isinstance(value, dsl.Artifact):
        return {"metadata": value.metadata, "content": _hash_address(value.uri)}
    if not name.endswith(("_uri", "_uris")):
        return value
    texts = list(list_texts(value))
    if name in DATA and any(is_table_name(Path(text).name) and Path(text).is_file() for text in texts):
        raise _UnknownContentError  # the images that the table names are elsewhere
    return {"value": value, "content": [_hash_address(text) for text in texts]}


def _hash_address(text: str) -> str:
    """A hash of the file or folder of that path; empty if the text alone tells all, as for a version of DVC."""
    if re.search(r"\.dir(/|$)", text):
        return ""
    if is_address(text):
        raise _UnknownContentError
    path = Path(text)
    if not path.is_absolute() or not path.exists():
        return ""
    return _hash_text(_hash_files(path)) if path.is_dir() else _hash_file(path)


def _hash_files(folder: Path) -> dict[str, str]:
    """The sha256 of each file in a folder and below it, by its path in the folder.

    Raises:
        OSError: something in it is neither a file nor a folder, or cannot be read.
        _UnknownContentError: a link leads to another folder.
    """

    def stop(error: OSError) -> NoReturn:
        raise error

    files: dict[str, str] = {}
    for parent, folders, names in os.walk(folder, onerror=stop):
        if any(Path(parent, name).is_symlink() for name in folders):
            raise _UnknownContentError
        files |= {str(Path(parent, name).relative_to(folder)): _hash_file(Path(parent, name)) for name in names}
    return files


def _hash_file(path: Path) -> str:
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _hash_text(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _readdress(path: Path, old: Path, new: Path) -> None:
    """Lets kfp's description of the outputs say that they are in another folder."""
    content = json.loads(path.read_text(encoding="utf-8"))
    for output in content.get("artifacts", {}).values():
        for artifact in output["artifacts"]:
            artifact["uri"] = str(new / _find_path(artifact["uri"], old))
    path.write_text(json.dumps(content), encoding="utf-8")


def _describe_artifact(artifact: dsl.Artifact, folder: Path) -> _Artifact:
    path = _find_path(artifact.uri, folder)
    return {"type": artifact.schema_title, "name": artifact.name, "path": path, "metadata": artifact.metadata}


def _find_path(uri: str, folder: Path) -> str:
    """The path of an artifact in the folder of its task."""
    if not Path(uri).is_relative_to(folder):
        raise _UnknownContentError
    return Path(uri).relative_to(folder).as_posix()


def _make_artifact(artifact: _Artifact, folder: Path) -> dsl.Artifact:
    return executor.create_artifact_instance(
        {
            "type": {"schemaTitle": artifact["type"]},
            "name": artifact["name"],
            "uri": str(folder / artifact["path"]),
            "metadata": artifact["metadata"],
        }
    )
