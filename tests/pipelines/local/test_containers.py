import inspect
from pathlib import Path

import pytest
from docker import DockerClient
from kfp.local.docker_task_handler import DockerTaskHandler

from components.shared.errors import UserError
from pipelines.local.containers import _Container, check_images, connect


@pytest.fixture
def client() -> DockerClient:
    try:
        return connect()
    except UserError as error:
        pytest.skip(str(error))


def test_host_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    with pytest.raises(UserError, match=rf"^No Docker or Podman answers at unix://{tmp_path}/none.sock; start one"):
        check_images(["train:x"])


def test_without_docker_every_place_of_a_socket_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    if any(Path(path).exists() for path in ("/var/run/docker.sock", "/run/podman/podman.sock")):
        pytest.skip("there is a socket")
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    with pytest.raises(UserError) as raised:
        check_images(["train:x"])
    for place in ("/var/run/docker.sock", f"{tmp_path}/podman/podman.sock", "/run/podman/podman.sock"):
        assert f"unix://{place}" in str(raised.value)


def test_ours_takes_what_kfp_gives_its_handler():
    given = inspect.signature(DockerTaskHandler).parameters
    assert set(given) == {"image", "full_command", "pipeline_root", "runner", "env_vars"}
    inspect.signature(_Container).bind(None, {}, **dict.fromkeys(given))  # raises what does not fit


def test_missing_image_is_named(client: DockerClient):
    with pytest.raises(
        UserError, match=r"^train:of-no-commit: no such image on this machine; build it with `make images`"
    ):
        check_images(["train:of-no-commit"])
