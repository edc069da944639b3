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
from components.shared.files import hash_file, lock_folder, new_directory, new_file
from components.shared.formats.documents import read_document, write_document
from components.shared.formats.dvc_manifest import read_version
from components.shared.formats.image_table import is_table_name
from pipelines.compiler.spec import FUNCTION
from pipelines.output.project import ROOT
from pipelines.submission.preparation import DATA, VERSIONS

FOLDER = ".stage_cache"  # in the folder of the runs
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
    files: dict[str, str]  # what _describe_files says of it
    artifacts: dict[str, _Artifact]  # by output
    parameters: dict[str, Any]  # the outputs that are none, which may hold paths in the folder


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
        self,
        root: Path,
        experiment: str,
        folder: Path,
        identify_code: Callable[[str, str], str],
        on_hit: Callable[[TakenTask], None],
    ) -> None:
        """Nothing is read or written yet.

        Args:
            root: the folder of the entries, for all experiments.
            experiment: that the run belongs to.
            folder: of the run.
            identify_code: a text that changes whenever what runs a stage does, by the stage and the name of its image;
                empty if that is not known.
            on_hit: is told of each task whose outputs were taken.
        """
        self._root, self._experiment, self._folder = root, experiment, folder
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
        if not (call := self._calls.get(key)):
            return None
        target = self._folder / "artifacts" / "taken" / call.task
        try:
            entry = read_document(path, _Entry, "delete it")
            with new_directory(target) as temporary:
                _copy(Path(entry["folder"]), temporary)
                if _describe_files(temporary) != entry["files"]:
                    raise _UnknownContentError
                entry = _readdress(entry, temporary, target)
        # There is no such entry, the run that has them is gone, or somebody has edited one of them.
        except (UserError, OSError, ValueError, _UnknownContentError):
            return None
        self._write(path, entry)
        self._on_hit(self._describe_hit(call, entry["made_by"], time.monotonic() - started))
        artifacts = {name: _make_artifact(artifact, target) for name, artifact in entry["artifacts"].items()}
        return {**entry["parameters"], **artifacts}

    def _describe_hit(self, call: _Call, made_by: str, seconds: float) -> TakenTask:
        parameters = {name: value for name, value in call.arguments.items() if not isinstance(value, dsl.Artifact)}
        inputs = {name: value.uri for name, value in call.arguments.items() if isinstance(value, dsl.Artifact)}
        return TakenTask(call.task, made_by.removeprefix(f"{self._experiment}/"), parameters, inputs, seconds)

    def put(self, key: str, outputs: dict[str, Any]) -> None:
        """Keeps the outputs of a task that has run, if what it took is still what it was when it began."""
        call = self._calls.get(key)
        described = next(self._folder.glob(f"artifacts/*/{call.task}/{OUTPUTS}"), None) if call else None
        if not call or not described:
            return
        folder = described.parent
        with contextlib.suppress(OSError, _UnknownContentError):
            if self._hash(call) == key:
                artifacts = {name: output for name, output in outputs.items() if isinstance(output, dsl.Artifact)}
                entry = _Entry(
                    made_by=f"{self._experiment}/{self._folder.name}",
                    folder=str(folder),
                    files=_describe_files(folder),
                    artifacts={name: _describe_artifact(artifact, folder) for name, artifact in artifacts.items()},
                    parameters={name: output for name, output in outputs.items() if name not in artifacts},
                )
                self._write(self._locate(key), entry)

    def _locate(self, key: str) -> Path:
        return self._root / f"{key}.json"

    def _write(self, path: Path, entry: _Entry) -> None:
        with contextlib.suppress(OSError, ValueError), lock_folder(self._root), new_file(path) as temporary:
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
        # What lies at an address is known by the version that goes with it, from which ingest takes nothing else.
        known = {uri for uri, version in VERSIONS.items() if call.arguments.get(version)}
        arguments = {
            name: value if name in known and is_address(value) else self._describe(name, value)
            for name, value in call.arguments.items()
        }
        return _hash_text([FORMAT, code, call.command, arguments])

    def _describe(self, name: str, value: Any) -> Any:
        """An argument as JSON: a parameter by its value, and what is an address by what lies there.

        Where that is also counts, as a stage may write it down; but within the folders of the runs, which are new each
        time, it does not: the next turn of the loop begins with what the last one has curated and ingested.
        """
        if isinstance(value, dsl.Artifact):
            return {"metadata": value.metadata, "content": _hash_address(value.uri)}
        if not name.endswith(("_uri", "_uris")):
            return _unify_numbers(value)
        if isinstance(value, dict):
            return {key: self._describe(name, each) for key, each in value.items()}
        if not value:
            return value
        if name in DATA and is_table_name(Path(value).name) and Path(value).is_file():
            raise _UnknownContentError  # the images that the table names are elsewhere
        is_of_a_run = any(Path(value).is_relative_to(folder) for folder in (self._folder, self._root.parent))
        return {"address": "" if is_of_a_run else value, "content": _hash_address(value)}


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
        if not re.fullmatch(r"[0-9a-f]{64}", path.stem):
            continue
        with contextlib.suppress(UserError):
            if Path(read_document(path, _Entry, "delete it")["folder"]).is_dir():
                continue
        path.unlink(missing_ok=True)


def _hash_address(text: str) -> str:
    """A hash of the file or folder that a stage finds at a path or an address.

    A version in a DVC remote is known by its manifest, whose name is its hash: a file here, also for a table in it, and
    elsewhere an address that tells all.
    """
    if is_address(text):
        if not read_version(text):
            raise _UnknownContentError
        return ""
    path = ROOT / text  # where the stages run
    manifest = next((parent for parent in (path, *path.parents) if parent.is_file()), None)
    return hash_file(manifest) if manifest else _hash_text(_describe_files(path))


def _copy(source: Path, target: Path) -> None:
    """Copies a folder without its permissions, which somebody may have taken away to protect it."""
    for parent, _, names in os.walk(source):
        place = target / Path(parent).relative_to(source)
        place.mkdir(exist_ok=True)
        for name in names:
            shutil.copyfile(Path(parent, name), place / name, follow_symlinks=False)


def _describe_files(folder: Path) -> dict[str, str]:
    """What is in a folder and below it, by the paths there: the sha256 of a file, and where a link leads.

    Raises:
        OSError: the folder is not there, or something in it is neither a file nor a folder, or cannot be read.
        _UnknownContentError: a link leads to another folder.
    """

    def stop(error: OSError) -> NoReturn:
        raise error

    found: dict[str, str] = {}
    for parent, folders, names in os.walk(folder, onerror=stop):
        for path in (Path(parent, name) for name in [*folders, *names]):
            if path.is_symlink() and path.is_dir():
                raise _UnknownContentError
            found[path.relative_to(folder).as_posix()] = "" if path.is_dir() else _describe_file(path)
    return found


def _describe_file(path: Path) -> str:
    """The sha256 of a file, and behind it where a link leads."""
    return f"{hash_file(path)} {os.readlink(path) if path.is_symlink() else ''}"


def _unify_numbers(value: Any) -> Any:
    """The value with whole numbers as int: what a person gives is 100, and the same default of a pipeline 100.0."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {key: _unify_numbers(each) for key, each in value.items()}
    return [_unify_numbers(each) for each in value] if isinstance(value, list) else value


def _hash_text(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _readdress(entry: _Entry, copy: Path, target: Path) -> _Entry:
    """The entry of a copy of its folder that is to be at `target`; what names the folder there is changed likewise.

    That is kfp's description of the outputs, and those that are parameters, each of which is a file as well.
    """

    def move(value: Any) -> Any:
        if isinstance(value, str) and Path(value).is_relative_to(entry["folder"]):
            return str(target / Path(value).relative_to(entry["folder"]))
        if isinstance(value, list):
            return [move(each) for each in value]
        return {name: move(each) for name, each in value.items()} if isinstance(value, dict) else value

    parameters = move(entry["parameters"])
    described = json.loads((copy / OUTPUTS).read_text(encoding="utf-8"))
    uris = {name: output["artifacts"][0]["uri"] for name, output in described.get("artifacts", {}).items()}
    if uris != {name: f"{entry['folder']}/{artifact['path']}" for name, artifact in entry["artifacts"].items()}:
        raise _UnknownContentError  # the entry itself has been edited
    described = move(described)
    texts = {OUTPUTS: json.dumps(described)}
    texts |= {name: value for name, value in parameters.items() if value != entry["parameters"][name]}
    files = dict(entry["files"])
    for name, text in texts.items():
        if name in files:
            (copy / name).write_text(text, encoding="utf-8")
            files[name] = _describe_file(copy / name)
    return {**entry, "folder": str(target), "files": files, "parameters": parameters}


def _describe_artifact(artifact: dsl.Artifact, folder: Path) -> _Artifact:
    if not Path(artifact.uri).is_relative_to(folder):
        raise _UnknownContentError
    path = Path(artifact.uri).relative_to(folder).as_posix()
    return {"type": artifact.schema_title, "name": artifact.name, "path": path, "metadata": artifact.metadata}


def _make_artifact(artifact: _Artifact, folder: Path) -> dsl.Artifact:
    return executor.create_artifact_instance(
        {
            "type": {"schemaTitle": artifact["type"]},
            "name": artifact["name"],
            "uri": str(folder / artifact["path"]),
            "metadata": artifact["metadata"],
        }
    )
