"""What `compile.py --config vertex` writes, held to what Vertex AI Pipelines documents and its client checks."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf.json_format import MessageToDict

from pipelines.compiler.config import Config, load_config
from pipelines.compiler.image_tags import find_tag
from pipelines.compiler.packages import build, write_packages
from pipelines.compiler.spec import list_images, list_tasks
from pipelines.compiler.stages import Stages

# A run's id is the pipeline's name and the time, such as training-20261122142501 (google-cloud-aiplatform checks it).
JOB_ID = re.compile("[a-z][-a-z0-9]{0,127}")
SCHEMAS = ("2.0.0", "2.1.0")  # of kfp 2
PARAMETER_TYPES = ("NUMBER_DOUBLE", "NUMBER_INTEGER", "STRING", "BOOLEAN", "LIST", "STRUCT")
ACCELERATORS = ("NVIDIA_", "TPU_")  # the beginnings of their names, of which Kubernetes has others
LARGEST_MACHINE = (96, 624)  # CPUs and GB
LARGEST_REQUEST = 4 * 2**20  # bytes, which a server of gRPC takes where nobody has raised it


@pytest.fixture(scope="module")
def vertex() -> Config:
    """The configuration with names filled in, and all that it may have."""
    stages = {"train": {"limits": {"cpu": "8", "memory": "32G"}, "accelerator": {"type": "NVIDIA_TESLA_T4"}}}
    given = {**load_config("vertex").model_dump(by_alias=True, exclude_unset=True)}
    given |= {"name": "vertex", "pipeline_root": "gs://ours/runs", "registry": "europe-west4-docker.pkg.dev/p/ours"}
    return Config.model_validate({**given, "stages": {**given["stages"], **stages}})


@pytest.fixture(scope="module")
def packages(vertex: Config, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    output = tmp_path_factory.mktemp("vertex")
    return {path.stem: path for path in write_packages(Stages(vertex, tag="1"), output)}


def read(path: Path) -> dict[str, Any]:
    """As the client does, which cannot read a second document."""
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def test_a_package_is_one_document_of_a_known_schema(packages: dict[str, Path]):
    assert {"training", "improvement", "comparison", "ingest", "compare"} <= packages.keys()
    for name, path in packages.items():
        spec = read(path)
        assert spec["schemaVersion"] in SCHEMAS, name
        assert spec.keys() <= {
            *("components", "defaultPipelineRoot", "deploymentSpec", "pipelineInfo", "root"),
            *("schemaVersion", "sdkVersion"),
        }
        assert spec["defaultPipelineRoot"] == "gs://ours/runs"
        assert path.stat().st_size < LARGEST_REQUEST


def test_names_make_ids_and_display_names(packages: dict[str, Path]):
    for path in packages.values():
        spec = read(path)
        name = spec["pipelineInfo"]["name"]
        assert JOB_ID.fullmatch(f"{name}-20261122142501"), name
        assert len(name) <= 128
        for task in list_tasks(spec):
            assert JOB_ID.fullmatch(task.name), task.name


def test_parameters_have_types_that_a_run_may_set(packages: dict[str, Path]):
    for name, path in packages.items():
        parameters = read(path)["root"]["inputDefinitions"]["parameters"]
        assert {parameter["parameterType"] for parameter in parameters.values()} <= set(PARAMETER_TYPES), name


def test_executors_are_containers_and_importers_with_machines_that_there_are(packages: dict[str, Path]):
    found = set()
    for path in packages.values():
        for name, executor in read(path)["deploymentSpec"]["executors"].items():
            assert executor.keys() <= {"container", "importer"}, name
            resources = executor.get("container", {}).get("resources", {})
            assert not [field for field in resources if "equest" in field], name
            assert float(resources.get("cpuLimit", 0)) <= LARGEST_MACHINE[0]
            assert float(resources.get("memoryLimit", 0)) <= LARGEST_MACHINE[1]
            if accelerator := resources.get("accelerator"):
                assert accelerator["resourceType"].startswith(ACCELERATORS)
                found.add(accelerator["resourceType"])
            if resources.get("resourceMemoryLimit"):
                assert re.fullmatch(r"\d+[KMG]?", resources["resourceMemoryLimit"])
    assert found == {"NVIDIA_TESLA_T4"}


def test_the_largest_machine_and_any_accelerator_are_taken():
    for limits, accelerator in (
        ({"cpu": "96", "memory": "624G"}, "NVIDIA_H100_80GB"),
        ({"cpu": "95.5", "memory": "581Gi"}, "TPU_V5_LITEPOD"),
        ({"cpu": "500m", "memory": "624000000000"}, "NVIDIA_L4"),
    ):
        stages = {"train": {"limits": limits, "accelerator": {"type": accelerator}}}
        config = Config.model_validate({"name": "vertex", "platform": "vertex", "stages": stages})
        assert config.stages["train"].limits.model_dump() == limits
    assert Config.model_validate({"name": "lab", "stages": {"train": {"limits": {"cpu": "200"}}}})


def test_a_gpu_has_the_image_that_is_made_for_one(vertex: Config):
    def name_images(config: Config) -> set[str]:
        return set(list_images(MessageToDict(build("training", Stages(config)).pipeline_spec)))

    (with_gpu,) = name_images(vertex) - name_images(vertex.model_copy(update={"stages": {}}))
    assert with_gpu == f"europe-west4-docker.pkg.dev/p/ours/train:{find_tag('train', for_gpu=True)}"
