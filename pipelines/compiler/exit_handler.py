"""The exit handler of a pipeline: the task `notify`, which follows all others and tells a webhook how they ended."""

import functools
import inspect
from typing import Any

from google.protobuf.json_format import MessageToDict
from kfp import dsl, kubernetes
from kfp.dsl.graph_component import GraphComponent

from components.shared.webhook import VARIABLE
from pipelines.compiler.config import Notify
from pipelines.compiler.spec import list_tasks
from pipelines.compiler.stages import Stages

NOTIFY = "notify"  # the stage and its task
API_PORT = 8888  # of the service ml-pipeline


def add_exit_handler(pipeline: GraphComponent, stages: Stages, notify: Notify) -> GraphComponent:
    """The pipeline with all its tasks in one group, which the task `notify` follows, whatever becomes of the group.

    What the pipeline hands to others is dropped: as a whole it is part of none.

    Args:
        pipeline: what is to be told of.
        stages: what tasks are made from.
        notify: where the address of the webhook is.
    """
    tasks = [task.name for task in list_tasks(MessageToDict(pipeline.pipeline_spec))]

    @functools.wraps(pipeline.pipeline_func)
    def handled(*arguments: Any) -> None:
        with dsl.ExitHandler(_add_task(stages, notify, tasks)):
            pipeline.pipeline_func(*arguments)

    signature = inspect.signature(pipeline.pipeline_func).replace(return_annotation=inspect.Signature.empty)
    handled.__signature__ = signature  # type: ignore[attr-defined]
    info = pipeline.pipeline_spec.pipeline_info
    decorate = dsl.pipeline(
        name=pipeline.name,
        description=pipeline.description,
        pipeline_root=pipeline.pipeline_spec.default_pipeline_root or None,
        display_name=info.display_name or None,
        pipeline_config=pipeline.pipeline_config,
    )
    return decorate(handled)


def _add_task(stages: Stages, notify: Notify, tasks: list[str]) -> dsl.PipelineTask:
    endpoint = stages.config.endpoint
    task = stages.add_task(
        NOTIFY,
        run=dsl.PIPELINE_JOB_NAME_PLACEHOLDER,
        run_id=dsl.PIPELINE_JOB_ID_PLACEHOLDER,
        tasks=tasks,
        api=f"http://ml-pipeline.{endpoint.namespace}:{API_PORT}",
        pages=endpoint.link_to("runs/details/"),
    )
    task.set_caching_options(False)  # each run is to be told of
    # Optional, since a pod whose secret is missing would wait for it, and the run with it.
    kubernetes.use_secret_as_env(task, notify.secret, {notify.key: VARIABLE}, optional=True)
    return task
