"""The options of Apache Beam: what is wrong with them, and with the places that they name, before anything runs."""

import contextlib
import difflib
import io
from collections.abc import Iterator
from typing import Any

import grpc
from apache_beam.options.pipeline_options import (
    DirectOptions,
    FlinkRunnerOptions,
    GoogleCloudOptions,
    PipelineOptions,
    PortableOptions,
    SetupOptions,
    SparkRunnerOptions,
    StandardOptions,
    WorkerOptions,
)
from apache_beam.options.pipeline_options_validator import PipelineOptionsValidator
from apache_beam.portability.api import beam_job_api_pb2, beam_job_api_pb2_grpc
from apache_beam.runners.portability.portable_runner import JobServiceHandle
from apache_beam.runners.runner import PipelineRunner, create_runner

from components.shared.cloud_storage import is_address
from components.shared.errors import UserError, quote, shorten

# Their job servers have options of their own, which Beam's Python SDK passes on.
PORTABLE = ("PortableRunner", "FlinkRunner", "SparkRunner")
IN_PROCESS = ("FnApiRunner", "DirectRunner", "SwitchingDirectRunner", "BundleBasedDirectRunner")
RUNNERS = (*IN_PROCESS, *PORTABLE, "DataflowRunner")
LOSE_DATA = {"DaskRunner": "it ended without an error and had written nothing"}
ENVIRONMENTS = ("DOCKER", "EXTERNAL", "LOOPBACK", "PROCESS")
PATIENCE = 10  # seconds for each of the two answers that a job service owes
A_WEEK = 7 * 24 * 3600  # seconds, which is also as long as a task may take


def parse_options(options: list[str]) -> PipelineOptions:
    """Parses options, each as --name=value.

    Raises:
        UserError: One is wrong, or one that the runner needs is missing.
    """
    for option in options:
        if not (isinstance(option, str) and option.startswith("--")):
            raise UserError(f"beam_options: {quote(option)} is not an option; write it as --name=value.")
    with _explain_argument_errors():
        parsed = PipelineOptions(options)
        known = parsed.get_all_options()
        unknown = parsed.get_all_options(retain_unknown_options=True).keys() - known.keys()
    runner = _get_runner(parsed)
    if reason := LOSE_DATA.get(runner):
        raise UserError(f"beam_options: {runner} loses data: in a trial {reason}; take another runner.")
    if runner and runner not in RUNNERS:
        raise UserError(f"beam_options: --runner={runner} is none of those that a stage knows: {', '.join(RUNNERS)}.")
    if parsed.view_as(DirectOptions).direct_num_workers < 0:
        raise UserError("beam_options: --direct_num_workers must not be negative; 0 stands for the number of cores.")
    if unknown and runner not in PORTABLE:
        near = difflib.get_close_matches(min(unknown), known, 1)
        hint = f"; did you mean --{near[0]}?" if near else "."
        raise UserError(f"beam_options: --{min(unknown)} is not an option of Beam{hint}")
    return parsed


def get_temp_location(options: list[str]) -> str:
    """The value of --temp_location without a slash at the end, or nothing."""
    return (parse_options(options).view_as(GoogleCloudOptions).temp_location or "").rstrip("/")


def check_options(options: list[str]) -> None:
    """Checks what the runner needs, and that what it is said to talk to answers.

    Raises:
        UserError: Everything that is missing or makes no sense, a line each; or who does not answer.
    """
    parsed = parse_options(options)
    runner = _get_runner(parsed)
    # Ours come first, since Beam's would ask gcloud and the network for what is missing.
    problems = _find_problems(runner, parsed) or _let_beam_check(parsed)
    if problems:
        raise UserError("\n".join(f"beam_options: {problem}" for problem in problems))
    if runner in PORTABLE:
        _check_answers(parsed.view_as(PortableOptions))


def make_patient(options: PipelineOptions) -> None:
    """Lets a pipeline take its time: Beam's --job_server_timeout, of a minute, also ends one that takes longer."""
    options.view_as(PortableOptions).job_server_timeout = A_WEEK


def runs_elsewhere(options: PipelineOptions) -> bool:
    """Whether a service runs the pipeline, and not this process."""
    return _get_runner(options) not in ("", *IN_PROCESS)


def _get_runner(options: PipelineOptions) -> str:
    """The name of the class; Beam also takes small letters, names without `Runner`, and the module in front."""
    given = (options.view_as(StandardOptions).runner or "").rsplit(".", 1)[-1]
    names = {name.lower(): name for name in (*RUNNERS, *LOSE_DATA)}
    return names.get(given.lower()) or names.get(f"{given.lower()}runner") or given


def _let_beam_check(options: PipelineOptions) -> list[str]:
    """What Beam's own validation says."""
    try:
        runner: PipelineRunner = create_runner(options.view_as(StandardOptions).runner or "FnApiRunner")
    except (ValueError, ImportError, AttributeError) as error:  # such as a runner that does not exist
        return [f"{shorten(error)}."]
    return [f"{shorten(error)}." for error in PipelineOptionsValidator(options, runner).validate()]


def _find_problems(runner: str, options: PipelineOptions) -> list[str]:
    """What Beam's own validation does not find, or not in words that help."""
    if "Dataflow" in runner:
        return _find_problems_of_dataflow(options)
    if runner not in PORTABLE:
        is_ignored = bool(options.view_as(PortableOptions).job_endpoint)
        return [f"--job_endpoint needs --runner, which is {' or '.join(PORTABLE)}."] if is_ignored else []
    problem = _find_missing_service(runner, options)
    return [*([problem] if problem else []), *_find_problems_of_workers(options.view_as(PortableOptions))]


def _find_problems_of_dataflow(options: PipelineOptions) -> list[str]:
    cloud = options.view_as(GoogleCloudOptions)
    worker = options.view_as(WorkerOptions)
    problems = []
    for name, value in (("temp_location", cloud.temp_location), ("staging_location", cloud.staging_location)):
        if (value or name == "temp_location") and not is_address(str(value)):
            problems.append(f"Dataflow needs a bucket for its files: --{name}=gs://BUCKET/FOLDER.")
    for name in ("project", "region"):
        if not getattr(cloud, name):
            problems.append(f"Dataflow needs --{name}=NAME, where it is to run.")
    if not worker.sdk_container_image:
        problems.append(
            "Dataflow needs --sdk_container_image=IMAGE, the image of its workers, which has the stage's code."
        )
    elif options.view_as(SetupOptions).sdk_location != "container":
        problems.append(
            "Dataflow needs --sdk_location=container, so that its workers take Beam from their image and not from PyPI."
        )
    return problems


def _find_missing_service(runner: str, options: PipelineOptions) -> str:
    """What is to run the pipeline but is not named; Beam would start it with a Java that no image has."""
    endpoint = options.view_as(PortableOptions).job_endpoint
    if endpoint:
        host, _, port = endpoint.rpartition(":")
        is_address = host and port.isdigit() and "/" not in host
        return "" if is_address else f"--job_endpoint={endpoint} is not an address; write it as HOST:PORT."
    flink, spark = options.view_as(FlinkRunnerOptions), options.view_as(SparkRunnerOptions)
    if runner == "FlinkRunner":
        if flink.flink_submit_uber_jar and flink.flink_master not in ("[auto]", "[local]"):
            return ""
        other = ", or --flink_master=HOST:PORT with --flink_submit_uber_jar"
    elif runner == "SparkRunner":
        if spark.spark_submit_uber_jar and spark.spark_rest_url:
            return ""
        other = ", or --spark_rest_url=http://HOST:PORT with --spark_submit_uber_jar"
    else:
        other = ""
    return f"{runner} needs --job_endpoint=HOST:PORT of a running job service{other}."


def _find_problems_of_workers(options: PortableOptions) -> list[str]:
    kind = (options.environment_type or "DOCKER").upper()
    if kind not in ENVIRONMENTS:
        return [f"--environment_type={options.environment_type} does not exist; it is {', '.join(ENVIRONMENTS)}."]
    if kind == "DOCKER" and not (
        options.environment_config or options.lookup_environment_option("docker_container_image")
    ):
        return [
            "the workers need an image with the stage's code: --environment_type=DOCKER --environment_config=IMAGE; or "
            "name a pool of them: --environment_type=EXTERNAL --environment_config=HOST:PORT."
        ]
    if kind == "EXTERNAL" and not _get_pool(options):
        return ["EXTERNAL workers need --environment_config=HOST:PORT of their pool."]
    return []


def _check_answers(options: PortableOptions) -> None:
    """Asks each that the pipeline needs and this machine can reach; Beam would wait for them for ever."""
    endpoint = options.job_endpoint
    if not endpoint or endpoint == "embed":
        return
    with _connect("job_endpoint", endpoint, "start the job service, or correct the address") as channel:
        service = beam_job_api_pb2_grpc.JobServiceStub(channel)
        try:
            service.DescribePipelineOptions(beam_job_api_pb2.DescribePipelineOptionsRequest(), timeout=PATIENCE)
        except grpc.RpcError as error:
            if error.code() != grpc.StatusCode.UNIMPLEMENTED:
                raise UserError(
                    f"beam_options: --job_endpoint={endpoint}: no job service answers there "
                    f"({error.code().name}); start it, or correct the address."
                ) from None
    pool = _get_pool(options)
    # With a service elsewhere, localhost is where its workers are, such as a container beside Flink's.
    if pool and (not _is_here(pool) or _is_here(endpoint)):
        with _connect("environment_config", pool, "start the pool of workers, or correct the address"):
            pass


def _get_pool(options: PortableOptions) -> str:
    """The address of the pool of workers, or nothing."""
    if (options.environment_type or "").upper() != "EXTERNAL":
        return ""
    return options.environment_config or options.lookup_environment_option("external_service_address") or ""


def _is_here(address: str) -> bool:
    return address.rsplit(":", 1)[0] in ("localhost", "127.0.0.1", "[::1]")


@contextlib.contextmanager
def _connect(name: str, address: str, advice: str) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(address) as channel:
        try:
            grpc.channel_ready_future(channel).result(timeout=PATIENCE)
        except grpc.FutureTimeoutError:
            raise UserError(
                f"beam_options: --{name}={address}: nothing answered within {PATIENCE} seconds; {advice}."
            ) from None
        yield channel


def _check_artifact_endpoints() -> None:
    """Makes Beam, which would wait for ever, check the address to which it uploads; the job service may name it."""
    stage = JobServiceHandle.stage

    def check_and_stage(handle: JobServiceHandle, pipeline: Any, address: str, token: str) -> None:
        if address:
            with _connect("artifact_endpoint", address, "name the job service's own, as this machine reaches it"):
                pass
        stage(handle, pipeline, address, token)

    JobServiceHandle.stage = check_and_stage  # type: ignore[method-assign, assignment, unused-ignore]


_check_artifact_endpoints()


@contextlib.contextmanager
def _explain_argument_errors() -> Iterator[None]:
    """Keeps the last line of what argparse prints before it exits; the hundreds of lines before are its usage."""
    printed = io.StringIO()
    try:
        with contextlib.redirect_stderr(printed), contextlib.redirect_stdout(io.StringIO()):
            yield
    except SystemExit as error:
        if not error.code:
            raise UserError("beam_options: --help is for a terminal; Beam's documentation has its options.") from None
        raise UserError(f"beam_options: {printed.getvalue().strip().splitlines()[-1].split('error: ')[-1]}.") from None
