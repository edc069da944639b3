"""Workers of Beam outside the stage's process."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import PROCESSES, ROOT
from tests.fakes.gcs import EMULATOR

PATIENCE = 60  # seconds in which a server must be up


@pytest.fixture(scope="session")
def job_endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a job service."""
    folder = tmp_path_factory.mktemp("service")
    module = "apache_beam.runners.portability.local_job_service_main"
    options = ["--port", "0", "--port_file", str(folder / "port"), "--staging_dir", str(folder / "staging")]
    with (folder / "log").open("w", encoding="utf-8") as log:
        service = subprocess.Popen([sys.executable, "-m", module, *options], cwd=ROOT, stdout=log, stderr=log)
    try:
        yield f"localhost:{wait_for(folder / 'port', service)}"
    finally:
        service.kill()
        service.wait()


@pytest.fixture(scope="session")
def worker_pool(gcs_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a pool that starts a process for each worker; they write to the Cloud Storage server."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    module = "apache_beam.runners.worker.worker_pool_main"
    log = (tmp_path_factory.mktemp("pool") / "log").open("w", encoding="utf-8")
    # The pool starts its workers as `python`.
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, EMULATOR: gcs_server}
    command = [sys.executable, "-m", module, "--service_port", str(port)]
    pool = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
    try:
        wait_for_port(port, pool)
        yield f"localhost:{port}"
    finally:
        pool.terminate()
        pool.wait()


def wait_for(path: Path, process: subprocess.Popen[bytes]) -> str:
    """What a process writes to a file."""
    for _ in range(10 * PATIENCE):
        assert process.poll() is None
        if path.exists() and (content := path.read_text(encoding="utf-8")):
            return content
        time.sleep(0.1)
    raise TimeoutError(path)


def wait_for_port(port: int, process: subprocess.Popen[bytes]) -> None:
    for _ in range(10 * PATIENCE):
        assert process.poll() is None
        with socket.socket() as client:
            if not client.connect_ex(("localhost", port)):
                return
        time.sleep(0.1)
    raise TimeoutError(port)


@pytest.fixture
def on_pool(job_endpoint: str, worker_pool: str) -> list[str]:
    """Beam's options for workers of the pool."""
    runner = ["--runner=PortableRunner", f"--job_endpoint={job_endpoint}"]
    return [*runner, "--environment_type=EXTERNAL", f"--environment_config={worker_pool}"]


@pytest.fixture(params=["processes", "LOOPBACK", "EXTERNAL"])
def elsewhere(request: pytest.FixtureRequest, tmp_path: Path) -> list[str]:
    """Beam's options for each kind of worker, with the temp_location `shared`.

    Either they are processes of Beam's runner on this machine; or Beam's own job service, which speaks the portable job
    API of the runners of Flink and Spark, calls those that the stage itself starts (LOOPBACK) or those of a worker pool
    (EXTERNAL). All but LOOPBACK share nothing with the stage but the temp_location.
    """
    temp_location = f"--temp_location={tmp_path / 'shared'}"
    if request.param == "processes":
        return [*PROCESSES, temp_location]
    if request.param == "EXTERNAL":
        return [*request.getfixturevalue("on_pool"), temp_location]
    endpoint = request.getfixturevalue("job_endpoint")
    return ["--runner=PortableRunner", f"--job_endpoint={endpoint}", "--environment_type=LOOPBACK", temp_location]
