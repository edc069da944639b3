"""`--runner docker`: each stage in a container of its own image, through kfp's DockerRunner.

kfp's handler of containers mounts nothing but the outputs, leaves those to root, keeps the ended containers, and may
take a failure for a success (kubeflow/pipelines#13332). The handler here takes its place. The package docker is
imported inside the functions, because runs without containers start faster without it.
"""

import codecs
import contextlib
import json
import os
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import requests
from kfp.local import docker_task_handler
from kfp.local.status import Status

from components.shared.errors import UserError
from pipelines.compiler.values import list_texts

if TYPE_CHECKING:
    from docker import DockerClient

READ_ONLY, WRITABLE = "ro", "rw"


def connect() -> "DockerClient":
    """The Docker or Podman of DOCKER_HOST, or else the first whose socket answers.

    Raises:
        UserError: none does.
    """
    import docker

    runtime = os.environ.get("XDG_RUNTIME_DIR", f"/run/user/{os.getuid()}")
    sockets = ("/var/run/docker.sock", f"{runtime}/podman/podman.sock", "/run/podman/podman.sock")
    given = os.environ.get("DOCKER_HOST")
    hosts = [given] if given else [f"unix://{path}" for path in sockets]
    for host in hosts:
        try:
            client = docker.from_env(environment={**os.environ, "DOCKER_HOST": host})
            client.ping()
            return client
        except (docker.errors.DockerException, requests.RequestException):
            pass
    raise UserError(
        f"No Docker or Podman answers at {' or '.join(hosts)}; start one (for Podman: systemctl --user start "
        "podman.socket), name another by DOCKER_HOST, or leave out --runner docker."
    )


def check_images(images: Iterable[str]) -> None:
    """Checks that Docker or Podman answers and has the images.

    Raises:
        UserError: it does not, or one is missing.
    """
    import docker

    with contextlib.closing(connect()) as client:
        for image in images:
            try:
                client.images.get(image)
            except docker.errors.NotFound:
                raise UserError(
                    f"{image}: no such image on this machine; build it with `make images`, or pull it."
                ) from None


def identify_image(image: str) -> str:
    """The id of an image, which is a hash of its content."""
    with contextlib.closing(connect()) as client:
        return str(client.images.get(image).id)


@contextlib.contextmanager
def start_stages_in_containers(folder: Path, arguments: dict[str, Any]) -> Iterator[None]:
    """Lets kfp's DockerRunner start the stages in containers of ours: kfp's leave files that belong to root.

    They may write to the folder of the run, and read what the arguments name.
    """
    mounts = dict.fromkeys(_list_folders(arguments), READ_ONLY) | {str(folder): WRITABLE}
    own = docker_task_handler.DockerTaskHandler
    with contextlib.closing(connect()) as client:
        docker_task_handler.DockerTaskHandler = partial(_Container, client, mounts)
        try:
            yield
        finally:
            docker_task_handler.DockerTaskHandler = own


def _list_folders(arguments: dict[str, Any]) -> Iterator[str]:
    """Lists the folders that arguments name.

    For a version in a DVC remote, STORE/ab/cdef.dir, it is the whole store, since that file only lists the others.
    """
    for text in list_texts(arguments):
        if text.startswith("/") and Path(text).exists():
            yield str(Path(text).parents[1]) if text.endswith(".dir") else text


class _Container:
    """A task handler as kfp.local calls it: with these arguments, and then `run`."""

    def __init__(
        self,
        client: "DockerClient",
        mounts: dict[str, str],
        *,
        image: str,
        full_command: list[str],
        env_vars: dict[str, str],
        **unused: Any,
    ) -> None:
        self._client, self._mounts, self._image, self._command = client, mounts, image, full_command
        self._environment = env_vars

    def run(self) -> Status:
        """Runs the stage as the caller's user and prints what it says; nothing of the container is left."""
        import docker

        try:
            code = self._run_container()
        except docker.errors.APIError as error:
            print(f"{self._image}: its container cannot run: {error.explanation}")
            return Status.FAILURE
        output = json.loads(self._command[self._command.index("--executor_input") + 1])["outputs"]["outputFile"]
        return Status.SUCCESS if code == 0 and Path(output).is_file() else Status.FAILURE

    def _run_container(self) -> int:
        container = self._client.containers.create(
            self._image,
            self._command,
            user=f"{os.getuid()}:{os.getgid()}",
            environment=self._environment,
            userns_mode="keep-id" if self._is_rootless_podman() else None,
            volumes={path: {"bind": path, "mode": mode} for path, mode in self._mounts.items()},
        )
        try:
            container.start()
            for text in codecs.iterdecode(container.logs(stream=True, follow=True), "utf-8", "replace"):
                print(text, end="")
            return int(container.wait()["StatusCode"])
        finally:
            container.remove(force=True)

    def _is_rootless_podman(self) -> bool:
        components = self._client.version().get("Components", [])
        return os.getuid() != 0 and any(component["Name"] == "Podman Engine" for component in components)
