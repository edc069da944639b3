"""The stages on Beam's own job service, which speaks the portable job API of the runners of Flink and Spark.

Two kinds of workers: those that the stage itself starts (LOOPBACK), and those of a worker pool (EXTERNAL), which share
nothing with the stage but the folder of --temp_location.
"""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from components.ingest.ingestion import ingest_data
from components.transform.transformation import transform_examples
from components.validate.validation import Thresholds, validate_examples
from tests.conftest import CLASSES, ROOT, Folders, contents, outputs_in
from tests.fakes.gcs import EMULATOR, Gcs

PATIENCE = 60  # seconds in which a server must be up


@pytest.fixture(scope="module")
def job_endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a job service."""
    folder = tmp_path_factory.mktemp("service")
    module = "apache_beam.runners.portability.local_job_service_main"
    options = ["--port", "0", "--port_file", str(folder / "port"), "--staging_dir", str(folder / "staging")]
    with (folder / "log").open("w") as log:
        service = subprocess.Popen([sys.executable, "-m", module, *options], cwd=ROOT, stdout=log, stderr=log)
    try:
        yield f"localhost:{wait_for(folder / 'port', service)}"
    finally:
        service.kill()
        service.wait()


@pytest.fixture(scope="module")
def worker_pool(gcs_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a pool that starts a process for each worker; they write to the Cloud Storage server."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    module = "apache_beam.runners.worker.worker_pool_main"
    log = (tmp_path_factory.mktemp("pool") / "log").open("w")
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
        if path.exists() and (content := path.read_text()):
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


@pytest.fixture(params=["LOOPBACK", "EXTERNAL"])
def options(request: pytest.FixtureRequest, job_endpoint: str, tmp_path: Path) -> list[str]:
    """Beam's options for each kind of worker, with a temp_location on disk."""
    runner = ["--runner=PortableRunner", f"--job_endpoint={job_endpoint}", "--environment_type=LOOPBACK"]
    if request.param == "EXTERNAL":
        runner = request.getfixturevalue("on_pool")
    return [*runner, f"--temp_location={tmp_path / 'shared'}"]


def ingest(tiny: Folders, output: Path, options: list[str]) -> None:
    ingest_data(
        str(tiny.data),
        test_data_uri=str(tiny.test),
        data_version="",
        classes=CLASSES,
        on_bad_image="fail",
        max_images=10_000,
        max_pixels=50_000_000,
        shards=2,
        beam_options=options,
        output=str(output),
    )


def test_ingest_writes_the_same(options: list[str], tiny: Folders, examples: Path, tmp_path: Path) -> None:
    ingest(tiny, tmp_path / "examples", options)
    assert contents(tmp_path / "examples") == contents(examples)
    assert contents(tmp_path / "shared") == {}, "what the workers left is removed"


def test_workers_may_write_below_a_bucket(
    on_pool: list[str], gcs: Gcs, tiny: Folders, examples: Path, tmp_path: Path
) -> None:
    ingest(tiny, tmp_path / "examples", [*on_pool, f"--temp_location={gcs.uri}/temporary", "--no_auth"])
    assert contents(tmp_path / "examples") == contents(examples)
    written = [blob.name for blob in gcs.client.list_blobs(gcs.bucket.name)]
    assert [name for name in written if name.endswith("/train-0")]


def test_validate_finds_the_same(options: list[str], examples: Path, validated: Path, tmp_path: Path) -> None:
    names = ("statistics", "schema", "findings", "report")
    validate_examples(
        str(examples),
        thresholds=Thresholds(0.1, 0.9, 0.02, 3.0),
        severity={"schema": "warning"},
        beam_options=options,
        examples_uri=str(examples),
        **outputs_in(tmp_path / "out", *names),
    )
    assert contents(tmp_path / "out") == contents(validated)


def test_transform_writes_the_same(
    options: list[str], examples: Path, validated: Path, transformed: Path, tmp_path: Path
) -> None:
    transform_examples(
        str(examples),
        schema=str(validated / "schema"),
        model="resnet",
        batch_size=16,
        beam_options=options,
        examples_uri=str(examples),
        **outputs_in(tmp_path / "out", "examples", "graph"),
    )
    assert contents(tmp_path / "out/examples") == contents(transformed / "examples")
