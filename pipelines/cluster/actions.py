"""What submit.py does on a cluster besides starting runs: check, list, attach, terminate, change a schedule.

Each returns a final state, from which the exit code follows.
"""

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

from kfp_server_api import V2beta1Run
from rich.markup import escape
from rich.table import Table

from components.shared.errors import UserError
from pipelines.cluster import checks, kubeconfig, kubernetes_checks, runs, waiting
from pipelines.cluster.connection import Cluster, NoAnswerYetError
from pipelines.cluster.submission import ClusterTarget, check_tags, wait_for_results
from pipelines.compiler.config import check_names_are_filled_in
from pipelines.compiler.packages import build, choose_package, write_package
from pipelines.compiler.spec import Spec, list_images, list_tasks, read_spec
from pipelines.compiler.stages import Stages
from pipelines.output.console import OutputConsole, print_line
from pipelines.output.display import Step, print_steps
from pipelines.submission.commands import Command, write_action
from pipelines.submission.preparation import locate_data
from pipelines.submission.request import ClusterOptions, RunRequest


def try_all(cluster: Cluster, request: RunRequest) -> Iterator[checks.Check]:
    """Tries everything that the run would need, one by one, and starts nothing.

    Raises:
        UserError: the configuration still has placeholders, of which there is nothing to try.
    """
    check_names_are_filled_in(cluster.config)
    stages = Stages(cluster.config)
    silence: NoAnswerYetError | None = None

    def check_endpoint() -> str:
        nonlocal silence
        try:
            return checks.check_endpoint(cluster)
        except NoAnswerYetError as error:
            silence = error
            raise

    def check_unless_silent(check: Callable[[], str]) -> str:
        """Waits for a silent server once, not again for everything that it could be asked."""
        if silence:
            raise UserError(str(silence))
        return check()

    def check_data() -> str:
        return ", ".join(locate_data(request, ClusterTarget(cluster, request.experiment)).versions)

    @cache
    def compile_pipeline() -> Spec:
        with tempfile.TemporaryDirectory() as temporary:
            package = Path(temporary, "pipeline.yaml")
            write_package(build(choose_package(request.pipeline, None, stages), stages), package)
            return read_spec(package)

    def check_images() -> str:
        images = list_images(compile_pipeline())
        check_tags(images)
        return checks.check_images(images)

    def check_requests() -> str:
        return kubernetes_checks.check_requests(cluster, {task.stage for task in list_tasks(compile_pipeline())})

    steps: dict[str, Callable[[], str]] = {
        "endpoint": check_endpoint,
        "credentials": lambda: check_unless_silent(lambda: checks.check_credentials(cluster)),
        "experiment": lambda: check_unless_silent(lambda: checks.check_experiment(cluster, request.experiment)),
        "bucket": lambda: checks.check_bucket(cluster.config.pipeline_root),
        **({"data": check_data} if request.data else {}),
        "images": check_images,
    }
    if kubeconfig.leads_to(cluster):
        steps["requests"] = lambda: check_unless_silent(check_requests)
        steps["retries"] = lambda: check_unless_silent(lambda: kubernetes_checks.check_retries(cluster))
    yield from checks.run_checks(steps)


def check(cluster: Cluster, request: RunRequest, options: ClusterOptions) -> str:
    """Prints what try_all finds, and if that is in order, the command that starts the run."""
    has_failed = False
    for name, has_passed, message in try_all(cluster, request):
        has_failed |= not has_passed
        print_line(f"{'[green]✓[/]' if has_passed else '[red]✗[/]'} {name:<12} {escape(message)}", markup=True)
    if not request.data:
        print_line(f"· {'data':<12} not tried; name the images with --data")
    if has_failed:
        return "failed"
    needs_data = not (request.data or request.component or request.before)
    run = Command(replace(request, data="DIR") if needs_data else request, replace(options, wait=True))
    print_steps([Step("start the run, and wait for it", command=str(run))])
    return "succeeded"


def list_runs(cluster: Cluster, request: RunRequest, options: ClusterOptions) -> str:
    """Prints the newest runs of an experiment."""
    experiment = request.experiment
    table = Table(title=f"experiment {escape(experiment)}", title_justify="left")
    for heading in ("run", "state", "started", "seconds"):
        table.add_column(heading, justify="right" if heading == "seconds" else "left", no_wrap=True)
    for run in runs.list_newest(cluster, experiment):
        took = waiting.measure_seconds(run.created_at, run.finished_at)
        table.add_row(
            escape(run.display_name),
            waiting.read_state(run),
            f"{run.created_at.astimezone():%Y-%m-%d %H:%M}" if took is not None else "",
            f"{took:,.0f}" if took is not None else "",
        )
    console = OutputConsole()
    if not console.is_terminal:
        console.width = 200  # a name that is cut is no use to --attach
    console.print(table if table.row_count else f"experiment {escape(experiment)}: no runs yet")
    if table.row_count:
        attach = write_action(request, options, "--attach", "latest")
        print_steps([Step("wait for one of them, such as the latest, and fetch its results", command=attach)])
    return "succeeded"


def attach(cluster: Cluster, name: str, *, request: RunRequest, options: ClusterOptions, webhook: str = "") -> str:
    """Waits for a run as wait_for_results does; its pages go where those of its own experiment are."""
    with cluster.within(options.limit):
        run = runs.find(cluster, name, request.experiment)
        request = replace(request, experiment=runs.name_experiment(cluster, run, request.experiment))
    return wait_for_results(cluster, run, request=request, options=options, webhook=webhook)


def say_how_to_wait(started: V2beta1Run, request: RunRequest, options: ClusterOptions) -> None:
    """Prints the command that waits for a run which has been started."""
    command = write_action(request, options, "--attach", str(started.run_id))
    print_steps([Step("wait for it, then fetch its results", command=command)])


def terminate(cluster: Cluster, name: str, *, request: RunRequest, options: ClusterOptions) -> str:
    """Ends a run.

    Raises:
        UserError: it has ended already.
    """
    run = runs.find(cluster, name, request.experiment)
    if run.state not in waiting.FINAL:
        run = runs.terminate(cluster, run)
    if run.state in waiting.FINAL:
        raise UserError(f"run {run.display_name}: has ended already ({waiting.read_state(run)}).")
    print_line(f"terminating {run.display_name}")
    attach = write_action(request, options, "--attach", str(run.run_id))
    print_steps([Step("see it end, and fetch the pages of what has succeeded", command=attach)])
    return "succeeded"


def change_schedule(cluster: Cluster, name: str, change: str) -> str:
    """Pauses, resumes or deletes a recurring run; `change` is the verb."""
    runs.change_schedule(cluster, name, change)
    print_line(f"recurring run {name}: {change}d")
    return "succeeded"
