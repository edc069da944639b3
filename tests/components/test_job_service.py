"""What a job service needs, and what goes wrong with workers elsewhere; that these do the same each stage tests."""

import contextlib
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner, RunnerResult
from apache_beam.runners.runner import PipelineState

from components.ingest.ingestion import ingest_data
from components.shared.beam import call_for_each, make_work_folder
from components.shared.errors import UserError
from tests.conftest import CLASSES, PROCESSES, Folders, contents
from tests.fakes.gcs import Gcs, unanswered_port


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


def test_workers_may_write_below_a_bucket(
    on_pool: list[str], gcs: Gcs, tiny: Folders, examples: Path, tmp_path: Path
) -> None:
    ingest(tiny, tmp_path / "examples", [*on_pool, f"--temp_location={gcs.uri}/temporary", "--no_auth"])
    assert contents(tmp_path / "examples") == contents(examples)
    written = [blob.name for blob in gcs.client.list_blobs(gcs.bucket.name)]
    assert [name for name in written if name.endswith("/train-0")]


def test_pipeline_may_take_longer_than_the_job_service_may_take_to_answer(on_pool: list[str], tmp_path: Path) -> None:
    """By --job_server_timeout, of a minute if it is not given, Beam also ends the wait for a pipeline."""
    options = [*on_pool, "--job_server_timeout=1"]
    with make_work_folder(options, tmp_path) as work:
        call_for_each([3.0], time.sleep, options=options, work=work)


def refuse(options: list[str], tmp_path: Path) -> str:
    """The sentence with which options are refused, before anything is written."""
    began = time.monotonic()
    with pytest.raises(UserError) as refusal, make_work_folder(options, tmp_path):
        pass
    assert time.monotonic() - began < 30
    assert contents(tmp_path) == {}
    return str(refusal.value)


@pytest.fixture
def silent() -> Iterator[str]:
    """An address where a server accepts connections and says nothing."""
    with socket.socket() as server:
        server.bind(("localhost", 0))
        server.listen()
        yield f"localhost:{server.getsockname()[1]}"


LOOPBACK = ["--runner=PortableRunner", "--environment_type=LOOPBACK"]


def test_stage_says_that_nothing_listens(tiny: Folders, tmp_path: Path) -> None:
    with unanswered_port() as port, pytest.raises(UserError) as refusal:
        ingest(tiny, tmp_path / "examples", [*LOOPBACK, f"--job_endpoint=localhost:{port}"])
    assert str(refusal.value) == (
        f"beam_options: --job_endpoint=localhost:{port}: nothing answered within 10 seconds; start the job service, or "
        "correct the address."
    )
    assert contents(tmp_path) == {}


def test_silent_job_service(silent: str, tmp_path: Path) -> None:
    assert refuse([*LOOPBACK, f"--job_endpoint={silent}"], tmp_path) == (
        f"beam_options: --job_endpoint={silent}: nothing answered within 10 seconds; start the job service, or correct "
        "the address."
    )


def test_silent_pool(silent: str, job_endpoint: str, tmp_path: Path) -> None:
    pool = ["--environment_type=EXTERNAL", f"--environment_config={silent}"]
    assert refuse(["--runner=PortableRunner", f"--job_endpoint={job_endpoint}", *pool], tmp_path) == (
        f"beam_options: --environment_config={silent}: nothing answered within 10 seconds; start the pool of workers, "
        "or correct the address."
    )


def test_silent_artifact_endpoint(silent: str, on_pool: list[str], tmp_path: Path) -> None:
    options = [*on_pool, f"--artifact_endpoint={silent}"]
    with pytest.raises(UserError) as refusal, make_work_folder(options, tmp_path) as work:
        call_for_each([0.0], time.sleep, options=options, work=work)
    assert str(refusal.value) == (
        f"beam_options: --artifact_endpoint={silent}: nothing answered within 10 seconds; name the job service's own, "
        "as this machine reaches it."
    )
    assert contents(tmp_path) == {}


def test_lost_worker_process_costs_a_retry(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def die_once(element: int) -> None:  # here, since the workers cannot import a module of tests
        with contextlib.suppress(FileExistsError):
            if element == 2:
                (done / "died").touch(exist_ok=False)
                os.kill(os.getpid(), signal.SIGKILL)
        (done / str(element)).touch()

    done = tmp_path / "done"
    done.mkdir()
    with make_work_folder(PROCESSES, tmp_path) as work:
        call_for_each([1, 2, 3], die_once, options=PROCESSES, work=work)
    assert sorted(path.name for path in done.iterdir()) == ["1", "2", "3", "died"]
    assert "Beam has lost a worker process; its pipeline runs again\n" in capsys.readouterr().out


def test_workers_that_are_lost_each_time_end_the_stage(tmp_path: Path) -> None:
    def die(_: int) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(UserError) as refusal, make_work_folder(PROCESSES, tmp_path) as work:
        call_for_each([1], die, options=PROCESSES, work=work)
    assert str(refusal.value) == (
        "Beam has lost a worker process 3 times, as when memory is short; give the stage more memory, or fewer workers "
        "by --direct_num_workers in beam_options, and start it again."
    )


def test_error_of_a_worker_is_a_sentence(on_pool: list[str], tmp_path: Path) -> None:
    with pytest.raises(UserError) as refusal, make_work_folder(on_pool, tmp_path) as work:
        call_for_each([-1.0], time.sleep, options=on_pool, work=work)
    assert "beam_options: the service that ran the pipeline has failed (" in str(refusal.value)
    assert "sleep length must be non-negative" in str(refusal.value)
    assert "start the stage again." in str(refusal.value)
    assert "Traceback" not in str(refusal.value)


FLINK = "or --flink_master=HOST:PORT with --flink_submit_uber_jar."
SPARK = "or --spark_rest_url=http://HOST:PORT with --spark_submit_uber_jar."
NO_IMAGE = (
    "the workers need an image with the stage's code: --environment_type=DOCKER --environment_config=IMAGE; or name a "
    "pool of them: --environment_type=EXTERNAL --environment_config=HOST:PORT."
)
REFUSED: dict[str, tuple[list[str], list[str]]] = {
    "DaskRunner": (
        [],
        ["DaskRunner loses data: in a trial it ended without an error and had written nothing; take another runner."],
    ),
    "apache_beam.runners.dask.dask_runner.DaskRunner": (
        [],
        ["DaskRunner loses data: in a trial it ended without an error and had written nothing; take another runner."],
    ),
    "dask": (
        [],
        ["DaskRunner loses data: in a trial it ended without an error and had written nothing; take another runner."],
    ),
    "daskrunner": (
        [],
        ["DaskRunner loses data: in a trial it ended without an error and had written nothing; take another runner."],
    ),
    "DataflowRunner": (
        ["--temp_location=/tmp"],
        [
            "Dataflow needs a bucket for its files: --temp_location=gs://BUCKET/FOLDER.",
            "Dataflow needs --project=NAME, where it is to run.",
            "Dataflow needs --region=NAME, where it is to run.",
            "Dataflow needs --sdk_container_image=IMAGE, the image of its workers, which has the stage's code.",
        ],
    ),
    "PortableRunner": (
        ["--environment_type=LOOPBACK"],
        ["PortableRunner needs --job_endpoint=HOST:PORT of a running job service."],
    ),
    "FlinkRunner": ([], [f"FlinkRunner needs --job_endpoint=HOST:PORT of a running job service, {FLINK}", NO_IMAGE]),
    "SparkRunner": (
        ["--environment_type=EXTERNAL"],
        [
            f"SparkRunner needs --job_endpoint=HOST:PORT of a running job service, {SPARK}",
            "EXTERNAL workers need --environment_config=HOST:PORT of their pool.",
        ],
    ),
}


@pytest.mark.parametrize("runner", REFUSED)
def test_everything_that_a_runner_lacks_is_said_at_once(runner: str, tmp_path: Path) -> None:
    options, problems = REFUSED[runner]
    sentence = refuse([f"--runner={runner}", *options], tmp_path)
    assert sentence.splitlines() == [f"beam_options: {problem}" for problem in problems]


SENSELESS = {
    ("--environment_type=KUBERNETES", "--job_endpoint=localhost:1"): (
        "--environment_type=KUBERNETES does not exist; it is DOCKER, EXTERNAL, LOOPBACK, PROCESS."
    ),
    ("--environment_type=LOOPBACK", "--job_endpoint=http://flink:8099/"): (
        "--job_endpoint=http://flink:8099/ is not an address; write it as HOST:PORT."
    ),
    ("--environment_type=PROCESS", "--job_endpoint=localhost:1"): (  # as Beam itself finds
        "Option process_command is required for environment type PROCESS."
    ),
}


RUNNERS = (
    "FnApiRunner, DirectRunner, SwitchingDirectRunner, BundleBasedDirectRunner, PortableRunner, FlinkRunner, "
    "SparkRunner, DataflowRunner."
)


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        ("--runner=NoSuchRunner", f"--runner=NoSuchRunner is none of those that a stage knows: {RUNNERS}"),
        ("--runner=os.system", f"--runner=system is none of those that a stage knows: {RUNNERS}"),
        ("--help", "--help is for a terminal; Beam's documentation has its options."),
        ("--direct_num_workers=-1", "--direct_num_workers must not be negative; 0 stands for the number of cores."),
        (
            "--job_endpoint=localhost:1",
            "--job_endpoint needs --runner, which is PortableRunner or FlinkRunner or SparkRunner.",
        ),
        ("--direct_num_workers=two", "argument --direct_num_workers: invalid int value: 'two'."),
    ],
)
def test_option_that_no_stage_can_use_is_refused(
    option: str, sentence: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert refuse([option], tmp_path) == f"beam_options: {sentence}"
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize("options", SENSELESS, ids=" ".join)
def test_senseless_value_is_refused(options: tuple[str, ...], tmp_path: Path) -> None:
    assert refuse(["--runner=PortableRunner", *options], tmp_path) == f"beam_options: {SENSELESS[options]}"


def test_runner_that_leaves_elements_out_is_noticed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It runs nothing, and says that all is well."""
    monkeypatch.setattr(FnApiRunner, "run_pipeline", lambda *_: RunnerResult(PipelineState.DONE, None))
    options = ["--runner=FnApiRunner"]
    with pytest.raises(UserError) as refusal, make_work_folder(options, tmp_path) as work:
        call_for_each([1, 2], time.sleep, options=options, work=work)
    assert str(refusal.value) == (
        "beam_options: the runner ended without an error, but with 0 of 2 parts, so what it made is not to be "
        "relied on. Take another runner."
    )
