"""`--runner docker`: each stage in a container of its own image, through kfp's DockerRunner.

kfp's handler of containers mounts nothing but the outputs, leaves those to root, keeps the ended containers, and may
take a failure for a success (kubeflow/pipelines#13332). The handler here takes its place.
"""

import codecs
import contextlib
import json
import os
import re
import secrets
import struct
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import docker
import requests
import urllib3
from docker.types import Mount
from kfp.local import docker_task_handler
from kfp.local.status import Status
from pydantic import BaseModel, ValidationError

from components.shared.errors import STOPS, UserError, describe_validation, shorten
from components.shared.formats.dvc_manifest import split_manifest
from components.shared.formats.image_table import is_table_name
from pipelines.compiler.values import list_texts

READ_ONLY, WRITABLE = "ro", "rw"
# What Podman takes for the end of a path: in the short form of a mount, and in the long one.
_ENDS_SHORT, _ENDS_LONG = re.compile(":"), re.compile('[,"]')
_ANSWER = 20  # seconds in which a daemon tells what it is
_PATIENCE = 300  # seconds for all else: a Podman without root copies an image before its first container
_OTHER_ANSWER = "it answers something else than Docker does"
_PROBLEMS = {"model_type": "is no JSON object"}
# What the client raises when the daemon refuses something, or answers no more; the last of a log that is cut off.
_FAILURES = (docker.errors.DockerException, requests.RequestException, urllib3.exceptions.HTTPError, struct.error)


# Answers of a daemon; the fields have the API's names.
class _Component(BaseModel):
    """A part of the daemon, such as Podman Engine."""

    Name: str


class _Version(BaseModel):
    """What a daemon says of itself."""

    Os: str
    Arch: str
    Components: list[_Component] | None = None


class _Info(BaseModel):
    """How a daemon runs."""

    SecurityOptions: list[str] | None = None


class _Image(BaseModel):
    """An image, and the platform that it is for."""

    Id: str
    Os: str
    Architecture: str


_AnyAnswer = TypeVar("_AnyAnswer", bound=BaseModel)


class Daemon(NamedTuple):
    """A Docker or Podman that answers."""

    client: docker.DockerClient
    name: str  # Docker or Podman
    address: str  # as DOCKER_HOST has it
    platform: str  # such as linux/amd64
    is_rootless: bool

    def __str__(self) -> str:
        return f"{self.name} at {self.address}"


def connect() -> Daemon:
    """The Docker or Podman of DOCKER_HOST, or else the first whose socket answers; its client stays open.

    Raises:
        UserError: none does.
    """
    runtime = os.environ.get("XDG_RUNTIME_DIR", f"/run/user/{os.getuid()}")
    sockets = ("/var/run/docker.sock", f"{runtime}/podman/podman.sock", "/run/podman/podman.sock")
    given = os.environ.get("DOCKER_HOST")
    tried = []
    for address in [given] if given else [f"unix://{path}" for path in sockets]:
        try:
            return _open(address)
        except _FAILURES as error:
            reason = _explain_silence(error)
            tried.append(f"{address} ({reason})" if reason else address)
    raise UserError(
        f"No Docker or Podman answers at {' or '.join(tried)}; start one (for Podman: systemctl --user start "
        "podman.socket), name another by DOCKER_HOST, or leave out --runner docker."
    )


def _explain_silence(error: Exception) -> str:
    """Why no daemon answers; empty if the connection fails, as it does where nobody is there."""
    if "Permission denied" in str(error):
        return "Permission denied"
    cause = error.__cause__ or error  # the client's own error is about what its first request raised
    if isinstance(cause, requests.Timeout):
        return f"no answer within {_ANSWER} seconds"
    if isinstance(cause, requests.ConnectionError):
        return ""
    return _find_reason(cause) if isinstance(cause, docker.errors.DockerException) else _OTHER_ANSWER


def _open(address: str) -> Daemon:
    daemon = _ask(address)
    daemon.client.api.timeout = _ANSWER
    try:
        daemon.client.ping()  # it may have gone since
    finally:
        daemon.client.api.timeout = _PATIENCE  # stages may run by the same client
    return daemon


@cache
def _ask(address: str) -> Daemon:
    """What answers there, asked once: Podman takes a second, since it looks up what has installed its programs."""
    client = docker.from_env(timeout=_ANSWER, environment={**os.environ, "DOCKER_HOST": address})
    version, info = _read(_Version, client.version()), _read(_Info, client.info())
    is_podman = any(component.Name == "Podman Engine" for component in version.Components or ())
    return Daemon(
        client,
        name="Podman" if is_podman else "Docker",
        address=address,
        platform=f"{version.Os}/{version.Arch}",
        is_rootless="name=rootless" in (info.SecurityOptions or ()),
    )


def _read(kind: type[_AnyAnswer], answer: Any) -> _AnyAnswer:
    """An answer of the daemon, of which the client itself checks nothing.

    Raises:
        docker.errors.DockerException: no Docker or Podman answers like this.
    """
    try:
        return kind.model_validate(answer)
    except ValidationError as error:
        raise docker.errors.DockerException(f"{_OTHER_ANSWER}: {describe_validation(error, _PROBLEMS)}") from None


def check_images(images: Iterable[str]) -> None:
    """Checks that Docker or Podman answers, has the images, and can run them.

    Raises:
        UserError: it does not, or one is missing, or is for another platform.
    """
    daemon = connect()
    for image in images:
        try:
            found = _find_image(daemon, image)
        except docker.errors.NotFound:
            raise UserError(
                f"{image}: no such image on this machine; build it with `make images`, or pull it."
            ) from None
        except _FAILURES as error:
            raise UserError(
                f"{image}: {daemon} does not say whether it has this image ({_find_reason(error)}); see that "
                f"`{daemon.name.lower()} image inspect {image}` works."
            ) from None
        platform = f"{found.Os}/{found.Architecture}"
        if platform != daemon.platform and not _can_start(daemon, found):
            raise UserError(
                f"{image}: this image is for {platform}, and {daemon} cannot run it on {daemon.platform}; build it "
                "on this machine with `make images`, or pull the one for this machine."
            )


def _find_image(daemon: Daemon, image: str) -> _Image:
    """The image of that name.

    One that Podman has built is localhost/NAME, where it looks for it itself; not so for Docker's clients, to which a
    bare name is one of Docker Hub.

    Raises:
        docker.errors.NotFound: there is none.
    """
    try:
        return _read(_Image, daemon.client.api.inspect_image(image))
    except docker.errors.NotFound:
        if daemon.name != "Podman" or "/" in image:
            raise
        return _read(_Image, daemon.client.api.inspect_image(f"localhost/{image}"))


def _can_start(daemon: Daemon, image: _Image) -> bool:
    """Whether a container of the image starts, as one of another platform does where there is an emulator for it."""
    try:
        daemon.client.containers.run(image.Id, entrypoint=["python3", "--version"], remove=True)
    except _FAILURES:
        return False
    return True


def _find_reason(error: Exception) -> str:
    return shorten(getattr(error, "explanation", None) or error)


def check_mounts(runs: Path, arguments: dict[str, Any]) -> None:
    """Refuses folders that cannot be mounted.

    Args:
        runs: the folder of the run's folder.
        arguments: of the pipeline.

    Raises:
        UserError: the path of one fits neither form of a mount.
    """
    for path in (str(runs.resolve()), *_list_folders(arguments)):
        if _ENDS_SHORT.search(path) and _ENDS_LONG.search(path) and connect().name == "Podman":
            raise UserError(
                f"{path}: Podman cannot mount a path that has a colon and a comma or quotation mark; move or rename "
                "it, or leave out --runner docker."
            )


def identify_image(image: str) -> str:
    """The id of an image, which is a hash of its content; empty if the daemon does not say."""
    try:
        return _find_image(connect(), image).Id
    except (UserError, *_FAILURES):
        return ""  # the stage will meet the same, and tell


@contextlib.contextmanager
def start_stages_in_containers(
    folder: Path, arguments: dict[str, Any], warn: Callable[[str], object]
) -> Iterator[None]:
    """Lets kfp's DockerRunner start the stages in containers of ours: kfp's leave files that belong to root.

    They may write to the folder of the run, and read what the arguments name.

    Args:
        folder: of the run.
        arguments: of the pipeline.
        warn: is given what the user is to know, though no stage fails by it.
    """
    access = dict.fromkeys(_list_folders(arguments), READ_ONLY) | {str(folder): WRITABLE}
    own = docker_task_handler.DockerTaskHandler
    daemon = connect()
    options = _describe_mounts(access, daemon) | _describe_user(daemon)
    docker_task_handler.DockerTaskHandler = partial(_Container, daemon, folder, options, warn)
    try:
        yield
    finally:
        docker_task_handler.DockerTaskHandler = own


def _list_folders(arguments: dict[str, Any]) -> Iterator[str]:
    """Lists the files and folders that arguments name.

    For a version in a DVC remote, STORE/ab/cdef.dir, it is the whole store, since that file only lists the others. For
    a table it is the folder with the images that it names.
    """
    for text in list_texts(arguments):
        path = Path(text)
        if not path.is_absolute():
            continue
        if manifest := split_manifest(text):
            yield str(Path(manifest[0]).parents[1])
        elif path.is_file() and is_table_name(path.name):
            yield str(path.parent)
        elif path.exists():
            yield text


def _describe_mounts(access: dict[str, str], daemon: Daemon) -> dict[str, Any]:
    """The mounts as the client takes them: in the long form, unless Podman would misread a path in it.

    In the short form, what is not there is made, and root owns it.
    """
    misread = [path for path in access if daemon.name == "Podman" and _ENDS_LONG.search(path)]
    short = {path: {"bind": path, "mode": access[path]} for path in misread}
    long = [
        Mount(path, path, type="bind", read_only=mode == READ_ONLY)
        for path, mode in access.items()
        if path not in short
    ]
    return {"volumes": short, "mounts": long}


def _describe_user(daemon: Daemon) -> dict[str, Any]:
    """What makes a stage the caller, whoever is the user of its image: it writes to the caller's folder."""
    caller = f"{os.getuid()}:{os.getgid()}"
    if not daemon.is_rootless:
        return {"user": caller, "userns_mode": "host"}
    # In a container, the caller is root, unless Podman is to keep the number.
    return {"user": caller, "userns_mode": "keep-id"} if daemon.name == "Podman" else {"user": "0:0"}


class _Container:
    """A task handler as kfp.local calls it: with these arguments, and then `run`."""

    def __init__(
        self,
        daemon: Daemon,
        folder: Path,
        options: dict[str, Any],
        warn: Callable[[str], object],
        *,
        image: str,
        full_command: list[str],
        env_vars: dict[str, str],
        **unused: Any,
    ) -> None:
        self._daemon, self._options, self._warn = daemon, options, warn
        self._image, self._command, self._environment = image, full_command, env_vars
        executor_input = json.loads(full_command[full_command.index("--executor_input") + 1])
        self._output = Path(executor_input["outputs"]["outputFile"])
        self._name = f"{folder.name}-{self._output.parent.name}-{secrets.token_hex(3)}"
        self._removal = f"{daemon.name.lower()} rm --force {self._name}"

    def run(self) -> Status:
        """Runs the stage as the caller's user and prints what it says; nothing of the container is left."""
        code, problem = None, ""
        try:
            code = self._run_container()
        except docker.errors.APIError as error:
            problem = f"{self._image}: its container cannot run ({_find_reason(error)})"
        except _FAILURES:
            problem = f"{self._daemon} stopped answering while the stage ran"
        finally:
            left = self._remove()
            if left and not problem:
                self._warn(f"The container {self._name} is not removed ({left}); remove it: `{self._removal}`.")
        if problem:
            print(STOPS)
            print(f"{problem}; once it answers, remove the container: `{self._removal}`." if left else f"{problem}.")
        return Status.SUCCESS if code == 0 and self._output.is_file() else Status.FAILURE

    def _run_container(self) -> int:
        # The end of the block waits for the thread, also after Ctrl-C: a container that is still being made could not
        # be removed.
        with ThreadPoolExecutor(1) as thread:
            container = thread.submit(self._create).result()
        container.start()
        for text in codecs.iterdecode(container.logs(stream=True, follow=True), "utf-8", "replace"):
            print(text, end="")
        return int(container.wait()["StatusCode"])

    def _create(self) -> Any:
        return self._daemon.client.containers.create(
            _find_image(self._daemon, self._image).Id,
            # As on a cluster, where the command takes the place of the image's entry point.
            entrypoint=self._command[:1],
            command=self._command[1:],
            name=self._name,
            environment=self._environment,
            security_opt=["label=disable"],  # where SELinux would keep containers from the user's folders
            **self._options,
        )

    def _remove(self) -> str:
        """Removes the container, if there is one; returns why that failed, or nothing."""
        try:
            self._daemon.client.api.remove_container(self._name, v=True, force=True)
        except docker.errors.NotFound:
            pass
        except _FAILURES as error:
            return _find_reason(error)
        return ""
