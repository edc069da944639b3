"""The step `notify`: tells a webhook how the run ended."""

from kfp.dsl import PipelineTaskFinalStatus

from components.shared.errors import exit_on_user_error


@exit_on_user_error
def notify(status: PipelineTaskFinalStatus, run: str, run_id: str, tasks: list, api: str, pages: str) -> None:
    """Sends one line to the webhook in the variable WEBHOOK; one that is dead changes nothing but the log.

    Args:
        status: What Kubeflow Pipelines says of all other tasks together.
        run: The name of the run.
        run_id: Its id.
        tasks: The names of the other tasks that run a container.
        api: The address of the API of Kubeflow Pipelines inside the cluster.
        pages: What the address of the run's page has before the id; empty if nobody can see the pages.
    """
    from components.notify.notification import notify_end
    from components.notify.outcome import find_outcome

    outcome = find_outcome(status.state, api=api, run_id=run_id, tasks=tasks)
    notify_end(run, outcome, link=f"{pages}{run_id}" if pages else "")
