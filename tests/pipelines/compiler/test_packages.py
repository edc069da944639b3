"""What compile.py writes, read as Kubeflow Pipelines reads it: into its protobuf messages, unknown fields refused."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from google.protobuf import json_format
from kfp.kubernetes.kubernetes_executor_config_pb2 import KubernetesExecutorConfig
from kfp.pipeline_spec.pipeline_spec_pb2 import PipelineDeploymentConfig, PipelineSpec, PlatformSpec

from tests.conftest import ROOT, copy_project, run_python

TRAINING = ["evaluate", "ingest", "train", "transform", "validate"]
STAGES = [*TRAINING, "audit", "compare", "curate"]
CONFIGS = ROOT / "pipelines" / "config"
TAG = "0123abc"

# Every setting a stage can have, once as the default of all and once as its own.
FULL = """
pipeline_root: gs://bucket/runs
registry: registry.example/images
defaults:
  requests: {cpu: 500m, memory: 1Gi}
  limits: {cpu: "2", memory: 2Gi}
  retries: 3
  backoff: 30s
  timeout: 600
  image_pull_policy: Always
  node_selector: {pool: small}
  tolerations: [{key: shared, operator: Exists}]
stages:
  train:
    limits: {cpu: "8", memory: 32G}
    accelerator: {type: nvidia.com/gpu, count: 2}
    node_selector: {cloud.google.com/gke-accelerator: nvidia-tesla-t4, pool: gpu}
    tolerations:
    - {key: nvidia.com/gpu, operator: Equal, value: present, effect: NoSchedule}
    - {key: spot, operator: Exists, effect: NoExecute}
    retries: 0
    timeout: 7200
    caching: false
"""


class Place(NamedTuple):
    task: Any
    container: Any
    kubernetes: KubernetesExecutorConfig


class Compiled(NamedTuple):
    config: dict[str, Any]
    folder: Path


class Package(NamedTuple):
    spec: PipelineSpec
    executors: dict[str, Any]  # of the pipeline's deployment
    kubernetes: dict[str, KubernetesExecutorConfig]  # by the executor's name


@pytest.fixture(scope="module", params=[*(path.stem for path in sorted(CONFIGS.glob("*.yaml"))), "full"])
def compiled(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    """A configuration, and the folder that `python compile.py --config` writes for it."""
    output = tmp_path_factory.mktemp("build")
    project = ROOT
    if request.param in ("full", "gke", "vertex"):
        project = copy_project(tmp_path_factory.mktemp("copy") / "project")
        (project / "pipelines" / "config" / "full.yaml").write_text(FULL)
        for name in ("gke", "vertex"):
            config = project / "pipelines" / "config" / f"{name}.yaml"
            config.write_text(
                re.sub("PROJECT|BUCKET|REGION", lambda name: f"our-{name[0].lower()}", config.read_text())
            )
    options = ("--config", request.param, "--tag", TAG, "--output", output)
    result = run_python("compile.py", *options, cwd=project)
    assert result.returncode == 0, result.stderr
    path = project / "pipelines" / "config" / f"{request.param}.yaml"
    return Compiled(yaml.safe_load(path.read_text()), output)


def strictly(document: Any, message: Any) -> Any:
    return json_format.ParseDict(document, message, ignore_unknown_fields=False)


def read_package(path: Path) -> Package:
    """The package's documents as messages; an error if one has a field that its message has not."""
    documents = list(yaml.safe_load_all(path.read_text(encoding="utf-8")))
    assert len(documents) in (1, 2)
    spec = strictly(documents[0], PipelineSpec())
    deployment = strictly(json_format.MessageToDict(spec.deployment_spec), PipelineDeploymentConfig())
    platform = strictly(documents[1] if len(documents) == 2 else {}, PlatformSpec())
    assert set(platform.platforms) <= {"kubernetes"}
    content = json_format.MessageToDict(platform.platforms["kubernetes"].deployment_spec)
    kubernetes = {
        name: strictly(config, KubernetesExecutorConfig()) for name, config in content.get("executors", {}).items()
    }
    assert kubernetes.keys() <= deployment.executors.keys()
    return Package(spec, dict(deployment.executors), kubernetes)


def places(compiled: Compiled, stage: str) -> list[Place]:
    """Every task that runs the stage: in each pipeline, in the parts of one, and alone."""
    paths = [*compiled.folder.glob("*.yaml"), compiled.folder / "components" / f"{stage}.yaml"]
    found = [place for path in paths for place in _places(read_package(path)) if is_of(place.container, stage)]
    # improvement trains twice, and like comparison it has a yardstick
    in_pipelines = {**dict.fromkeys(TRAINING, 3), "evaluate": 5, "compare": 2}
    assert len(found) == in_pipelines.get(stage, 1) + 1
    return found


def _places(package: Package) -> Iterator[Place]:
    components = package.spec.components
    for dag in [package.spec.root.dag, *(each.dag for each in components.values() if each.HasField("dag"))]:
        for task in dag.tasks.values():
            label = components[task.component_ref.name].executor_label
            if label and package.executors[label].HasField("container"):
                kubernetes = package.kubernetes.get(label, KubernetesExecutorConfig())
                yield Place(task, package.executors[label].container, kubernetes)


def is_of(container: Any, stage: str) -> bool:
    return f"components/{stage}/component.py" in container.args


def settings(config: dict[str, Any], stage: str) -> dict[str, Any]:
    return {**config.get("defaults", {}), **config.get("stages", {}).get(stage, {})}


def test_every_package_is_one_that_kubeflow_pipelines_takes(compiled: Compiled):
    paths = sorted(path.relative_to(compiled.folder).as_posix() for path in compiled.folder.rglob("*"))
    assert paths == [
        "comparison.yaml",
        "components",
        *(f"components/{stage}.yaml" for stage in sorted([*STAGES, "judge"])),
        "improvement.yaml",
        "training.yaml",
    ]
    for path in compiled.folder.rglob("*.yaml"):
        package = read_package(path)
        assert package.spec.schema_version == "2.1.0"
        assert package.spec.default_pipeline_root == compiled.config.get("pipeline_root", "")
        assert package.spec.pipeline_info.name in (path.stem, f"single-{path.stem}")


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_runs_its_image_with_its_resources(compiled: Compiled, stage: str):
    wanted = settings(compiled.config, stage)
    prefix = compiled.config.get("registry", "")
    for _, container, _ in places(compiled, stage):
        assert container.image == f"{prefix + '/' if prefix else ''}{stage}:{TAG}"
        resources = container.resources
        for kind in ("request", "limit"):
            quantities = wanted.get(f"{kind}s", {})
            for name in ("cpu", "memory"):
                assert getattr(resources, f"resource_{name}_{kind}") == quantities.get(name, "")
        accelerator = wanted.get("accelerator", {})
        assert resources.accelerator.resource_type == accelerator.get("type", "")
        assert resources.accelerator.resource_count == str(accelerator.get("count", ""))


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_is_tried_again_and_cached_as_configured(compiled: Compiled, stage: str):
    wanted = settings(compiled.config, stage)
    for task, _, _ in places(compiled, stage):
        assert task.caching_options.enable_cache == wanted.get("caching", True)
        assert task.retry_policy.max_retry_count == wanted.get("retries", 0)
        if wanted.get("retries"):
            assert f"{task.retry_policy.backoff_duration.seconds}s" == wanted.get("backoff", "60s")
            assert task.retry_policy.backoff_factor == 2


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_is_scheduled_as_configured(compiled: Compiled, stage: str):
    wanted = settings(compiled.config, stage)
    for _, _, kubernetes in places(compiled, stage):
        assert kubernetes.active_deadline_seconds == (wanted.get("timeout") or 0)
        assert kubernetes.image_pull_policy == wanted.get("image_pull_policy", "")
        assert dict(kubernetes.node_selector.labels) == wanted.get("node_selector", {})
        tolerations = [json_format.MessageToDict(toleration) for toleration in kubernetes.tolerations]
        assert tolerations == wanted.get("tolerations", [])


def test_nothing_else_is_told_to_kubernetes(compiled: Compiled):
    for path in compiled.folder.rglob("*.yaml"):
        for config in read_package(path).kubernetes.values():
            known = {"active_deadline_seconds", "image_pull_policy", "node_selector", "tolerations"}
            assert {field.name for field, _ in config.ListFields()} <= known


def test_a_pipeline_inside_another_is_given_every_parameter(compiled: Compiled):
    """In place of one left out, kfp.local takes the outer pipeline's of the same name, a cluster the default."""
    checked = 0
    for path in compiled.folder.rglob("*.yaml"):
        spec = next(yaml.safe_load_all(path.read_text()))
        graphs = [spec["root"], *(component for component in spec["components"].values() if "dag" in component)]
        for task in [task for graph in graphs for task in graph["dag"]["tasks"].values()]:
            inner = spec["components"][task["componentRef"]["name"]]
            if "dag" in inner:
                assert task["inputs"]["parameters"].keys() == inner["inputDefinitions"]["parameters"].keys(), path
                checked += 1
    assert checked >= 2
