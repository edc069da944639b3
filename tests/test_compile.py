"""compile.py from outside: a copy of the project is edited, the command is run, what it writes is read."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.shared.files import lock_folder
from pipelines.compiler.image_tags import find_tag
from tests.conftest import ROOT, contents, run_python

TRAINING = ["evaluate", "ingest", "train", "transform", "validate"]
STAGES = [*TRAINING, "audit", "compare", "curate", "judge"]
PIPELINES = {
    "training": set(TRAINING),
    "improvement": {"before", "audit", "curate", "after", "yardstick", "compare"},
    "comparison": {"yardstick", "compare"},
}
KINDS = {
    "String": "STRING",
    "Integer": "NUMBER_INTEGER",
    "Float": "NUMBER_DOUBLE",
    "Boolean": "BOOLEAN",
    "JsonArray": "LIST",
    "JsonObject": "STRUCT",
}


def compiled(project: Path, *options: str) -> dict[str, Any]:
    """The YAML of each pipeline that a successful `python compile.py` writes, by name."""
    result = run_python("compile.py", *options, cwd=project)
    assert result.returncode == 0, result.stderr
    return {Path(line).stem: yaml.safe_load((project / line).read_text()) for line in result.stdout.splitlines()}


def refused(project: Path, *options: str) -> str:
    """The one line with which `python compile.py` refuses, having written nothing."""
    result = run_python("compile.py", *options, cwd=project)
    assert (result.returncode, result.stdout) == (1, "")
    assert re.fullmatch(r"[^\n]+\n", result.stderr), result.stderr
    assert not (project / "build").exists()
    return result.stderr


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def contract(stage: str) -> dict[str, Any]:
    return yaml.safe_load((ROOT / "components" / stage / "component.yaml").read_text())


def ports(stage: str, kind: str) -> tuple[dict[str, str], dict[str, str]]:
    """Name and type in the compiled YAML's words, of the stage's parameters and of its artifacts."""
    types = {port["name"]: port["type"] for port in contract(stage).get(kind, [])}
    parameters = {name: KINDS[type_] for name, type_ in types.items() if type_ in KINDS}
    return parameters, {name: f"system.{type_}" for name, type_ in types.items() if type_ not in KINDS}


def definitions(spec: dict[str, Any], kind: str) -> tuple[dict[str, str], dict[str, str]]:
    content = spec.get(kind, {})
    parameters = {name: value["parameterType"] for name, value in content.get("parameters", {}).items()}
    artifacts = {name: value["artifactType"]["schemaTitle"] for name, value in content.get("artifacts", {}).items()}
    return parameters, artifacts


def pipeline_with(stage: str) -> str:
    return "training" if stage in TRAINING else "improvement"


def container(pipeline: dict[str, Any], stage: str) -> dict[str, Any]:
    return pipeline["deploymentSpec"]["executors"][f"exec-{stage}"]["container"]


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> tuple[subprocess.CompletedProcess[str], Path]:
    output = tmp_path_factory.mktemp("compile") / "build"
    return run_python("compile.py", "--output", output), output


@pytest.fixture(scope="module")
def pipelines(build: tuple[subprocess.CompletedProcess[str], Path]) -> dict[str, Any]:
    return {path.stem: yaml.safe_load(path.read_text()) for path in build[1].rglob("*.yaml")}


def test_says_which_files_it_wrote_and_writes_no_others(build):
    result, output = build
    assert (result.returncode, result.stderr) == (0, f"{name_bare_images(find_tag('audit'))}\n")
    written = [str(path) for path in output.rglob("*") if path.is_file()]
    assert sorted(result.stdout.splitlines()) == sorted(written)
    assert {path.relative_to(output).as_posix() for path in map(Path, written)} == {
        *(f"{name}.yaml" for name in PIPELINES),
        *(f"components/{stage}.yaml" for stage in STAGES),
    }


def test_paths_are_links_where_the_terminal_takes_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    result = run_python("compile.py", "--output", tmp_path / "a [b]")
    assert f";file://{tmp_path}/a%20%5Bb%5D/training.yaml\x1b\\{tmp_path}/a [b]/training.yaml" in result.stdout


def test_writes_the_same_bytes_again_and_imports_nothing_heavy(build, tmp_path: Path):
    first = build[1]
    heavy = ("tensorflow", "keras", "apache_beam", "tensorflow_data_validation", "pandas", "numpy", "matplotlib")
    script = (
        "import sys, compile; from pipelines.local import runner; from pipelines.output import display;"
        "compile.main(); import submit;"
        f"print('heavy:', [name for name in {heavy} if name in sys.modules])"
    )
    result = run_python("-c", script, "--output", tmp_path / "build")
    assert result.stdout.endswith("heavy: []\n"), result.stdout + result.stderr
    again = {path.relative_to(tmp_path / "build"): path.read_bytes() for path in tmp_path.rglob("*.yaml")}
    assert again == {path.relative_to(first): path.read_bytes() for path in first.rglob("*.yaml")}
    assert len(again) == len(PIPELINES) + len(STAGES)


@pytest.mark.parametrize("name", [*PIPELINES, *STAGES])
def test_output_parses_strictly_into_the_kfp_proto(build, name: str):
    from google.protobuf.json_format import ParseDict
    from kfp.pipeline_spec.pipeline_spec_pb2 import PipelineSpec, PlatformSpec

    path = build[1] / (f"{name}.yaml" if name in PIPELINES else f"components/{name}.yaml")
    specification, *platforms = yaml.safe_load_all(path.read_text())
    parsed = ParseDict(specification, PipelineSpec(), ignore_unknown_fields=False)
    for platform in platforms:
        ParseDict(platform, PlatformSpec(), ignore_unknown_fields=False)
    tasks = {task for task in parsed.root.dag.tasks if not task.startswith("importer")}
    assert tasks == PIPELINES.get(name, {name})


@pytest.mark.parametrize("stage", sorted({*STAGES} - {"judge"}))  # which only some configs have in a pipeline
def test_stage_in_both_pipelines_has_the_interface_and_command_of_its_yaml(pipelines, stage: str):
    implementation = contract(stage)["implementation"]["container"]
    for pipeline in (pipelines[pipeline_with(stage)], pipelines[stage]):
        component = pipeline["components"][f"comp-{stage}"]
        assert definitions(component, "inputDefinitions") == ports(stage, "inputs")
        assert definitions(component, "outputDefinitions") == ports(stage, "outputs")
        executor = container(pipeline, stage)
        assert executor["image"] == f"{stage}:{find_tag(stage)}"
        assert executor["command"] == implementation["command"]
        assert executor["args"] == [*implementation["args"][:-1], "{{$}}"]


@pytest.mark.parametrize("stage", STAGES)
def test_single_step_pipeline_imports_each_artifact_from_a_uri_parameter(pipelines, stage: str):
    parameters, artifacts = ports(stage, "inputs")
    pipeline = pipelines[stage]
    uris = {f"{name}_uri": "STRING" for name in artifacts}
    assert definitions(pipeline["root"], "inputDefinitions") == ({**parameters, **uris, "from_run": "STRING"}, {})
    tasks = pipeline["root"]["dag"]["tasks"]
    assert len(tasks) == 1 + len(artifacts)
    for name, schema in artifacts.items():
        importer = tasks[stage]["inputs"]["artifacts"][name]["taskOutputArtifact"]["producerTask"]
        assert tasks[importer]["inputs"]["parameters"]["uri"]["componentInputParameter"] == f"{name}_uri"
        kind = pipeline["deploymentSpec"]["executors"][f"exec-{importer}"]["importer"]["typeSchema"]["schemaTitle"]
        assert kind == schema


def test_tasks_that_import_are_named_after_what_they_import(pipelines):
    for name in ("comparison", *STAGES):
        tasks = pipelines[name]["root"]["dag"]["tasks"]
        for task in tasks.values():
            for port, source in task.get("inputs", {}).get("artifacts", {}).items():
                producer = source["taskOutputArtifact"]["producerTask"]
                if producer.startswith("importer"):
                    assert tasks[producer]["taskInfo"]["name"] == f"import-{port.replace('_', '-')}"


@pytest.mark.parametrize("stage", STAGES)
def test_inputs_and_outputs_have_the_descriptions_of_component_yaml(pipelines, stage: str):
    component = pipelines[stage]["components"][f"comp-{stage}"]
    for ports_of, kind in (("inputs", "inputDefinitions"), ("outputs", "outputDefinitions")):
        written = {
            name: port["description"] for group in component.get(kind, {}).values() for name, port in group.items()
        }
        assert written == {port["name"]: port["description"] for port in contract(stage)[ports_of]}


def test_parameters_of_pipelines_are_described_by_what_takes_them(pipelines):
    def describe(stage: str, name: str) -> str:
        return next(port["description"] for port in contract(stage)["inputs"] if port["name"] == name)

    training, turn, comparison = (
        {
            name: parameter["description"]
            for name, parameter in pipelines[pipeline]["root"]["inputDefinitions"]["parameters"].items()
        }
        for pipeline in ("training", "improvement", "comparison")
    )
    assert training["epochs"] == turn["epochs"] == describe("train", "epochs")
    assert training["data_uri"] == turn["data_uri"] == describe("ingest", "data_uri")
    assert turn["seed"] == (
        f"after, before: {describe('train', 'seed')}\n"
        f"audit: {describe('audit', 'seed')}\n"
        f"curate: {describe('curate', 'seed')}"
    )
    model = describe("evaluate", "model")
    example = "gs://BUCKET/runs/PIPELINE/RUN/TASK/ATTEMPT/OUTPUT"
    assert comparison["model_uri"] == f"The URI of model, such as {example}. {model}"
    for stage in STAGES:
        parameters = pipelines[stage]["root"]["inputDefinitions"]["parameters"]
        assert all(parameter.get("description") for parameter in parameters.values()), stage


def test_improvement_trains_twice_as_the_training_pipeline_does(pipelines):
    """What is not in the second training is another: the stages, what flows between them, and the settings."""
    spec = pipelines["improvement"]
    root, tasks = spec["root"], spec["root"]["dag"]["tasks"]
    dags = {name: spec["components"][f"comp-{name}"]["dag"]["tasks"] for name in ("before", "after")}
    for name, dag in dags.items():
        assert tasks[name]["taskInfo"]["name"] == name
        assert dag.keys() == {f"{name}-{stage}" for stage in TRAINING}
        unnamed = json.loads(json.dumps(dag).replace(f'"{name}-', '"'))  # as the training pipeline calls its tasks
        for stage, task in unnamed.items():
            assert {**task, "componentRef": {}} == {
                **pipelines["training"]["root"]["dag"]["tasks"][stage],
                "componentRef": {},
            }
            component = spec["components"][dag[f"{name}-{stage}"]["componentRef"]["name"]]
            alone = pipelines["training"]["components"][f"comp-{stage}"]
            assert {**component, "executorLabel": ""} == {**alone, "executorLabel": ""}
            executor = spec["deploymentSpec"]["executors"][component["executorLabel"]]
            assert executor == pipelines["training"]["deploymentSpec"]["executors"][f"exec-{stage}"]
    given = {name: task["inputs"].get("parameters", {}) for name, task in tasks.items()}
    data = ("classes", "val_share", "test_share", "split_seed", "content", "curated_schema_uri")
    both = (*data, "model", "epochs", "batch_size", "learning_rate", "seed", "seeds")
    assert {name: given["before"][name] for name in both} == {name: given["after"][name] for name in both}
    produced = {"producerTask": "curate", "outputParameterKey": "data_uri"}
    others = {name: value for name, value in given["after"].items() if name not in both}
    assert others.pop("data_uri")["taskOutputParameter"] == produced
    assert {name: value["runtimeValue"]["constant"] for name, value in others.items()} == {
        "test_data_uri": "",  # the curated folder has the test images
        "data_version": "",
        "test_data_version": "",
        "ignored": [],
        "on_bad_image": "fail",
    }
    assert definitions(root, "inputDefinitions")[0].keys() == {
        *definitions(pipelines["training"]["root"], "inputDefinitions")[0],
        "content",
        "decisions_uris",
        "disagreement",
        "deciding_reviewer",
        "most_dropped",
        "val_to_train",
        "augment_times",
        "augment_to",
    }


def test_improvement_compares_on_the_examples_of_the_version_before(pipelines):
    tasks = pipelines["improvement"]["root"]["dag"]["tasks"]

    def sources(task: str) -> dict[str, str]:
        given = {port: each["taskOutputArtifact"] for port, each in tasks[task]["inputs"]["artifacts"].items()}
        return {port: f"{each['producerTask']}.{each['outputArtifactKey']}" for port, each in given.items()}

    before = {"examples": "before.examples"}
    assert sources("audit") == before
    assert sources("curate") == {**before, "issues": "audit.issues", "predictions": "before.predictions"}
    assert sources("yardstick") == {**before, "model": "after.model"}
    assert sources("compare") == {
        **before,
        **{
            f"{turn}_{name}": f"{turn}.{name}" for turn in ("before", "after") for name in ("evaluation", "predictions")
        },
        "yardstick_predictions": "yardstick.predictions",
    }


def test_comparison_does_with_two_runs_what_improvement_does_with_its_own(pipelines):
    """By the parameter that an importer takes: in improvement, what is taken from before or after."""
    tasks = pipelines["comparison"]["root"]["dag"]["tasks"]

    def source(given: dict[str, Any]) -> str:
        producer = given["taskOutputArtifact"]["producerTask"]
        if producer in ("yardstick", "compare"):
            return f"{producer}.{given['taskOutputArtifact']['outputArtifactKey']}"
        return tasks[producer]["inputs"]["parameters"]["uri"]["componentInputParameter"]

    taken = {
        name: {port: source(given) for port, given in tasks[name]["inputs"]["artifacts"].items()}
        for name in PIPELINES["comparison"]
    }
    yardstick = {"yardstick_predictions": "yardstick.predictions"}
    assert taken == {
        "yardstick": {name: f"{name}_uri" for name in ("model", "examples")},
        "compare": {**{name: f"{name}_uri" for name in ports("compare", "inputs")[1]}, **yardstick},
    }
    for name in PIPELINES["comparison"]:
        one, other = (
            spec["components"][f"comp-{name}"] for spec in (pipelines["comparison"], pipelines["improvement"])
        )
        assert {**one, "executorLabel": ""} == {**other, "executorLabel": ""}


def test_improvement_makes_no_more_images_than_ingest_takes(project: Path):
    config = project / "pipelines/config/lab.yaml"
    for limits, expected in (({"ingest": 500}, 500), ({"ingest": 500, "curate": 300}, 300)):
        stages = {stage: {"parameters": {"max_images": limit}} for stage, limit in limits.items()}
        stages.setdefault("curate", {"parameters": {}})["parameters"]["augment_to"] = 200
        config.write_text(yaml.safe_dump({"stages": stages}))
        task = compiled(project, "--config", "lab")["improvement"]["root"]["dag"]["tasks"]["curate"]
        assert task["inputs"]["parameters"]["max_images"]["runtimeValue"]["constant"] == expected


def test_registry_and_tag_complete_bare_image_names_only(project: Path):
    for stage, image in (
        ("train", "ghcr.io/team/train:7"),
        ("transform", "mirror/transform"),
        ("validate", "v@sha256:0"),
    ):
        edit(project / f"components/{stage}/component.yaml", f"image: {stage}", f"image: {image}")
    pipelines = compiled(project, "--registry", "registry.example/team/", "--tag", "abc123")
    for pipeline in (pipelines["training"], pipelines["ingest"]):
        assert container(pipeline, "ingest")["image"] == "registry.example/team/ingest:abc123"
    images = {stage: container(pipelines["training"], stage)["image"] for stage in TRAINING}
    assert images == {
        "ingest": "registry.example/team/ingest:abc123",
        "evaluate": "registry.example/team/evaluate:abc123",
        "train": "ghcr.io/team/train:7",
        "transform": "mirror/transform",
        "validate": "v@sha256:0",
    }


def test_edits_of_a_component_yaml_show_in_the_next_compile(project: Path):
    path = project / "components/train/component.yaml"
    edit(path, "default: 100", "default: 7")
    edit(path, "image: train", "image: trainer")
    edit(path, "args:\n", "args:\n    - --extra\n")
    edit(path, "Trains the model", "Trains another model")
    pipelines = compiled(project)
    for name in ("training", "train"):
        assert pipelines[name]["root"]["inputDefinitions"]["parameters"]["epochs"]["defaultValue"] == 7
        assert container(pipelines[name], "train")["image"] == "trainer"
        assert container(pipelines[name], "train")["args"][0] == "--extra"
    assert pipelines["train"]["pipelineInfo"]["description"].startswith("Trains another model")


def test_an_image_that_cannot_be_built_is_said_to_have_no_tag(project: Path):
    edit(project / "components/train/component.yaml", "image: train", "image: trainer")
    said = run_python("compile.py", cwd=project).stderr.splitlines()
    dockerfile = project / "containers/trainer/Dockerfile"
    assert said[0] == f"{dockerfile}: no such file, from which the image trainer could be built."
    assert said[1].startswith("These packages name images without a registry")


def test_one_tag_for_all_images_can_be_given(project: Path):
    assert run_python("compile.py", "--tag", "abc123", cwd=project).stderr == f"{name_bare_images('abc123')}\n"


def test_schema_of_the_config_is_in_the_packages_if_they_can_reach_it(project: Path):
    config = project / "pipelines/config/competition.yaml"
    said = run_python("compile.py", "--config", "competition", "--tag", "v1", cwd=project).stderr.splitlines()
    assert said == [
        f"{config}: pipelines/config/competition.pbtxt is a file of this machine, so these packages infer a schema; "
        "submit.py takes it along. For packages that you upload, put it into a bucket and name it there.",
        name_bare_images("v1").rstrip(),
    ]
    config.write_text("schema: gs://images/schema.pbtxt")
    pipelines = compiled(project, "--config", "competition")
    for name in ("training", "improvement", "validate"):
        parameters = pipelines[name]["root"]["inputDefinitions"]["parameters"]
        assert parameters["curated_schema_uri"]["defaultValue"] == "gs://images/schema.pbtxt"


def test_a_schema_that_is_not_there_is_refused(project: Path):
    config = project / "pipelines/config/mine.yaml"
    config.write_text("schema: nowhere.pbtxt")
    assert refused(project, "--config", "mine") == (
        f"{project}/nowhere.pbtxt: no such file; `schema` in {config} names it.\n"
    )


def test_a_file_of_a_person_is_not_overwritten(project: Path):
    (project / "build").mkdir()
    (project / "build/training.yaml").write_text("mine: 1\n")
    result = run_python("compile.py", cwd=project)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == ("build/training.yaml: was not written by compile.py; move it, or give another --output.\n")
    assert [path.name for path in (project / "build").iterdir()] == ["training.yaml"]
    assert (project / "build/training.yaml").read_text() == "mine: 1\n"


def test_a_second_one_waits_for_the_first_to_have_written(project: Path):
    build = project / "build"
    build.mkdir()
    with lock_folder(build):
        second = subprocess.Popen([sys.executable, "compile.py"], cwd=project, stdout=subprocess.DEVNULL)
        with pytest.raises(subprocess.TimeoutExpired):
            second.wait(5)
        assert not list(build.rglob("*.yaml"))
    assert second.wait() == 0
    waited = contents(build)
    assert run_python("compile.py", cwd=project).returncode == 0
    assert contents(build) == waited


def name_bare_images(tag: str) -> str:
    return (
        f"These packages name images without a registry, such as audit:{tag}, which a cluster does not find; to upload "
        "them, add --registry REGION-docker.pkg.dev/PROJECT/REPOSITORY, or --config with a configuration that has one. "
        "A run on this machine needs no package: python submit.py --local --data DIR"
    )


def test_packages_for_a_cluster_say_where_they_go(project: Path):
    gke = project / "pipelines/config/gke.yaml"
    gke.write_text(gke.read_text().replace("BUCKET", "mine").replace("REGION", "eu").replace("PROJECT", "p"))
    image = "eu-docker.pkg.dev/p/pipelines/audit:v1"
    upload = f"These packages name images such as {image}. Next: upload build/training.yaml on the page Pipelines of "
    from_config = run_python("compile.py", "--config", "gke", "--tag", "v1", cwd=project)
    assert from_config.stderr == (
        f"{upload}Kubeflow Pipelines, or let submit.py do it: python submit.py --config gke --check\n"
    )
    from_option = run_python("compile.py", "--registry", "eu-docker.pkg.dev/p/pipelines", "--tag", "v1", cwd=project)
    assert from_option.stderr == f"{upload}Kubeflow Pipelines\n"


def test_packages_for_vertex_say_where_they_go(project: Path):
    vertex = project / "pipelines/config/vertex.yaml"
    assert refused(project, "--config", "vertex") == (
        f"{vertex}: still has BUCKET, REGION, PROJECT in place of your names; put them there as docs/vertex.md says, "
        "or to run on this machine, use submit.py --local.\n"
    )
    vertex.write_text(vertex.read_text().replace("BUCKET", "mine").replace("REGION", "eu").replace("PROJECT", "p"))
    image = "eu-docker.pkg.dev/p/pipelines/audit:v1"
    assert run_python("compile.py", "--config", "vertex", "--tag", "v1", cwd=project).stderr == (
        f"These packages name images such as {image}. Next: start build/training.yaml as docs/vertex.md says.\n"
    )


@pytest.mark.parametrize(
    ("options", "names"), [((), "BUCKET, REGION, PROJECT"), (("--registry", "eu-docker.pkg.dev/p/r"), "BUCKET")]
)
def test_names_of_the_template_are_refused_for_a_cluster(project: Path, options: tuple[str, ...], names: str):
    assert refused(project, "--config", "gke", *options) == (
        f"{project}/pipelines/config/gke.yaml: still has {names} in place of your names; put them there as docs/gke.md "
        "says, or to run on this machine, use submit.py --local.\n"
    )


def test_a_class_may_be_called_as_a_name_of_the_template(project: Path):
    config = {"stages": {"ingest": {"parameters": {"classes": ["PROJECT", "BUCKET"]}}}}
    (project / "pipelines/config/lab.yaml").write_text(yaml.safe_dump(config))
    assert compiled(project, "--config", "lab")


def test_configuration_sets_defaults_constants_images_and_resources(project: Path):
    (project / "pipelines/config/lab.yaml").write_text(
        "registry: lab.example\n"
        "tag: t1\n"
        "stages:\n"
        "  train: {parameters: {epochs: 3, learning_rate: 1}, limits: {cpu: '3', memory: 5G},"
        " accelerator: {type: nvidia.com/gpu, count: 2}}\n"
        "  validate: {parameters: {imbalance_ratio: 9.5, severity: {blank: error}}}\n"
    )
    pipelines = compiled(project, "--config", "lab")
    training = pipelines["training"]
    assert training["root"]["inputDefinitions"]["parameters"]["epochs"]["defaultValue"] == 3
    assert training["root"]["inputDefinitions"]["parameters"]["learning_rate"]["defaultValue"] == 1
    given = training["root"]["dag"]["tasks"]["validate"]["inputs"]["parameters"]
    assert given["imbalance_ratio"]["runtimeValue"]["constant"] == 9.5
    assert given["severity"]["runtimeValue"]["constant"] == {"blank": "error"}
    assert pipelines["validate"]["root"]["inputDefinitions"]["parameters"]["imbalance_ratio"]["defaultValue"] == 9.5
    executor = container(training, "train")
    assert executor["image"] == "lab.example/train:t1"
    assert executor["resources"]["resourceCpuLimit"] == "3"
    assert executor["resources"]["resourceMemoryLimit"] == "5G"
    assert executor["resources"]["accelerator"]["resourceType"] == "nvidia.com/gpu"
    assert executor["resources"]["accelerator"]["resourceCount"] == "2"


YAML, CODE = "component.yaml", "component.py"
EPOCHS = "- name: epochs\n  type: Integer\n  default: 100\n  description: The number of passes over the train split.\n"


@pytest.mark.parametrize(
    ("file", "old", "new", "named"),
    [
        pytest.param(YAML, "inputs:", "inputs: [", [YAML, "line"], id="broken syntax"),
        pytest.param(YAML, "default: 100", "defualt: 100", [YAML, "defualt"], id="unknown key"),
        pytest.param(
            YAML, "type: Integer", "type: Intger", [YAML, "epochs", "Did you mean Integer?"], id="unknown type"
        ),
        pytest.param(
            YAML, "default: 100", "default: many", [YAML, "epochs", "'many'", "Integer"], id="default no number"
        ),
        pytest.param(YAML, "default: 100", "default: '100'", [YAML, "epochs", "'100'"], id="default in quotes"),
        pytest.param(
            YAML, "type: Dataset", "type: Dataset\n  default: x", [YAML, "transformed_examples"], id="artifact"
        ),
        pytest.param(
            YAML,
            EPOCHS,
            "",
            [YAML, "'epochs'"],
            id="input missing",
        ),
        pytest.param(CODE, "    epochs: int,\n", "", [YAML, CODE, "'epochs'"], id="argument missing"),
        pytest.param(
            CODE, "epochs: int", "epochs: float", [YAML, CODE, "'epochs'", "Float", "Integer"], id="other type"
        ),
        pytest.param(CODE, "epochs: int", "epochs", [CODE, "epochs"], id="argument without type"),
        pytest.param(CODE, "epochs: int", "epochs: complex", [CODE, "complex"], id="argument of a type kfp has not"),
        pytest.param(
            CODE, "Output[Model]", "Output[Dataset]", [YAML, "'model'", "Model", "Dataset"], id="other output"
        ),
        pytest.param(YAML, "- name: history\n", "- name: log\n", [YAML, "'log'"], id="output not in function"),
        pytest.param(CODE, "    history: Output[Artifact],\n", "", [YAML, CODE, "'history'"], id="output missing"),
        pytest.param(CODE, "def train(", "def trian(", [YAML, CODE, "'train'"], id="function missing"),
        pytest.param(CODE, "@exit_on", "import nowhere\n@exit_on", [CODE, "nowhere"], id="import of what is not there"),
        pytest.param(CODE, "def train(", "def train((", [CODE, "SyntaxError"], id="syntax error in Python"),
        pytest.param(CODE, "@exit_on", "raise ValueError('a\\nb')\n@exit_on", [CODE, "a b"], id="raises when imported"),
        pytest.param(
            YAML, "name: train", "name: training", [YAML, "'training'", "'train'"], id="not the folder's name"
        ),
        pytest.param(YAML, "    image: train\n", "", [YAML, "image"], id="no image"),
        pytest.param(
            YAML,
            "  default: 100\n",
            "  default: 100\n  default: 5\n",
            [f"{YAML}, line 14: default is there twice, first in line 13; correct it.\n"],
            id="key twice",
        ),
        pytest.param(
            YAML,
            "default: 100",
            "default: 0",
            [f"{YAML}: epochs: the default is 0; it must be 1 or more.\n"],
            id="default out of range",
        ),
        pytest.param(
            YAML,
            "annotations: {minimum: 1}",
            "annotations: {minimum: least}",
            [f"{YAML}: epochs: the parameter 'least' does not exist. There are: batch_size, epochs, "],
            id="limit that is no parameter",
        ),
        pytest.param(
            YAML,
            "annotations: {minimum: 1}",
            "annotations: {notWith: least}",
            [f"{YAML}: epochs: the parameter 'least' does not exist. There are: "],
            id="excluded parameter that is none",
        ),
    ],
)
def test_broken_component_is_one_sentence(project: Path, file: str, old: str, new: str, named: list[str]):
    edit(project / "components/train" / file, old, new)
    message = refused(project)
    assert "components/train/" in message
    assert [word for word in named if word not in message] == []


def test_component_without_code_is_one_sentence(project: Path):
    (project / "components/train/component.py").unlink()
    assert "components/train/component.py: no such file" in refused(project)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        pytest.param("stages: [", ["line"], id="broken syntax"),
        pytest.param("regstry: x", ["regstry"], id="unknown field"),
        pytest.param("stages: {train: {memroy: 1G}}", ["stages.train.memroy"], id="unknown field of a stage"),
        pytest.param("stages: {trian: {}}", ["'trian'", "Did you mean train?"], id="unknown stage"),
        pytest.param("stages: {TRAIN: {}}", ["'TRAIN'", "Did you mean train?"], id="stage in capitals"),
        pytest.param(
            "stages: {train: {parameters: {epohcs: 1}}}", ["train", "'epohcs'", "Did you mean epochs?"], id="parameter"
        ),
        pytest.param("stages: {train: {parameters: {epochs: many}}}", ["train.epochs", "'many'", "Integer"], id="type"),
        pytest.param(
            "stages: {train: {limits: {cpu: 2}}}",
            [": stages.train.limits.cpu: must be a string; put it in quotes.\n"],
            id="quantity without quotes",
        ),
        pytest.param(
            "stages:\n  train: {}\n  train: {}\n",
            [", line 3: train is there twice, first in line 2; correct it.\n"],
            id="key twice",
        ),
        pytest.param(
            "stages: {train: {timeout: yes}}",
            [": stages.train.timeout: is True, but should be a valid integer.\n"],
            id="truth",
        ),
        pytest.param("tag: 12e4567", [": tag: must be a string; put it in quotes.\n"], id="tag that is a number"),
        pytest.param("name: mine", [": name: a configuration has the name of its file; leave this out.\n"], id="name"),
        pytest.param("notify: {}", [": notify.secret: is missing.\n"], id="no secret"),
        *(
            pytest.param(
                f"{{platform: vertex, {given}}}",
                [
                    f": {place}: is for Kubernetes, and Vertex AI Pipelines does not take it; leave it out, or leave "
                    "out `platform: vertex`.\n"
                ],
                id=f"{place} for Vertex",
            )
            for given, place in (
                ("notify: {secret: x}", "notify"),
                ("defaults: {requests: {cpu: '1'}}", "defaults.requests"),
                ("defaults: {image_pull_policy: Always}", "defaults.image_pull_policy"),
                ("stages: {train: {timeout: 60}}", "stages.train.timeout"),
                ("stages: {train: {node_selector: {a: b}}}", "stages.train.node_selector"),
                ("stages: {train: {tolerations: [{key: a}]}}", "stages.train.tolerations"),
            )
        ),
        *(
            pytest.param(f"{{platform: vertex, {given}}}", [f": {said}.\n"], id=f"Vertex has no {given}")
            for given, said in (
                (
                    "stages: {train: {limits: {cpu: '97'}}}",
                    "stages.train.limits.cpu: is 97, but a machine of Vertex AI Pipelines has at most 96 CPUs",
                ),
                (
                    "defaults: {limits: {cpu: 96001m}}",
                    "defaults.limits.cpu: is 96001m, but a machine of Vertex AI Pipelines has at most 96 CPUs",
                ),
                *(
                    (
                        f"stages: {{train: {{limits: {{memory: {memory}}}}}}}",
                        f"stages.train.limits.memory: is {memory}, but a machine of Vertex AI Pipelines has at most "
                        "624G",
                    )
                    for memory in ("700G", "582Gi", "1T")
                ),
                (
                    "stages: {train: {accelerator: {type: nvidia-tesla-t4}}}",
                    "stages.train.accelerator.type: is 'nvidia-tesla-t4', but Vertex AI Pipelines has names of its "
                    "own, such as NVIDIA_TESLA_T4",
                ),
                (
                    "pipeline_root: s3://b",
                    "pipeline_root: is 's3://b', but Vertex AI Pipelines keeps artifacts in Cloud Storage alone; write "
                    "gs://BUCKET/FOLDER",
                ),
            )
        ),
        pytest.param(
            "notify: {secret: Pipeline_Webhook}",
            [": notify.secret: is no name of a Kubernetes secret, which has small letters, digits, points and dashes"],
            id="name of a secret",
        ),
        pytest.param(
            "notify: {secret: x, key: a/b}", [": notify.key: is 'a/b', but should match pattern"], id="key of a secret"
        ),
        pytest.param("[]", [": must hold names with values, NAME: VALUE.\n"], id="list"),
        pytest.param(
            "stages: {train: }", [": stages.train: must hold names with values, NAME: VALUE.\n"], id="empty stage"
        ),
        pytest.param(
            "stages: {train: {parameters: {epochs: 0}}}", [": train.epochs is 0; it must be 1 or more.\n"], id="range"
        ),
        pytest.param(
            "stages: {curate: {parameters: {max_images: 5, augment_to: 10}}}",
            [": curate.augment_to is 10; it must be from -1 to max_images, 5.\n"],
            id="range that another parameter gives",
        ),
        pytest.param(
            "stages: {curate: {parameters: {val_to_train: 0.5, cleaning: [crop]}}}",
            [": curate.val_to_train is 0.5, but cleaning is ['crop']; leave out one of the two.\n"],
            id="two that exclude each other",
        ),
        pytest.param(
            "stages: {train: {parameters: {learning_rate: .nan}}}",
            [": train.learning_rate is nan; it must be a finite number.\n"],
            id="nan",
        ),
        pytest.param(
            "stages: {curate: {parameters: {flips: {1: [horizontal]}}}}",
            [": curate.flips has the key 1, which is a number; put it in quotes.\n"],
            id="number as a key",
        ),
        *(
            pytest.param(
                f"stages: {{ingest: {{parameters: {{classes: [{name}, a]}}}}}}",
                [f": ingest.classes holds {read}; put text in quotes.\n"],
                id=f"class {name}",
            )
            for name, read in (
                ("0", "0, which is a number"),
                ("007", "7, which is a number"),
                ("1e3", "1000.0, which is a number"),
                ("no", "false, which is a truth value (as yes, no, on and off are in YAML)"),
                ("null", "null, which is no value"),
                ("2024-01-01", "2024-01-01, which is a date"),
            )
        ),
        pytest.param(
            "stages: {ingest: {parameters: {classes: ['{{$}}']}}}",
            [": ingest.classes holds '{{$}}'; Kubeflow Pipelines replaces what begins with {{$, so rename it.\n"],
            id="placeholder",
        ),
    ],
)
def test_broken_configuration_is_one_sentence(project: Path, content: str, named: list[str]):
    (project / "pipelines/config/mine.yaml").write_text(content)
    message = refused(project, "--config", "mine")
    assert [word for word in ["config/mine.yaml", *named] if word not in message] == []


def test_a_number_may_be_written_with_an_exponent_alone(project: Path):
    edit(project / "components/train/component.yaml", "default: 0.0001", "default: 5e-3")
    (project / "pipelines/config/mine.yaml").write_text("stages: {compare: {parameters: {confidence_level: 9e-1}}}")
    pipelines = compiled(project, "--config", "mine")
    assert pipelines["train"]["root"]["inputDefinitions"]["parameters"]["learning_rate"]["defaultValue"] == 0.005
    assert pipelines["compare"]["root"]["inputDefinitions"]["parameters"]["confidence_level"]["defaultValue"] == 0.9


@pytest.mark.parametrize("name", ["mine.yaml", "pipelines/config/mine.yaml"])
def test_a_configuration_may_be_named_as_its_file(project: Path, name: str):
    (project / "pipelines/config/mine.yaml").write_text("stages: {train: {parameters: {epochs: 3}}}")
    parameters = compiled(project, "--config", name)["train"]["root"]["inputDefinitions"]["parameters"]
    assert parameters["epochs"]["defaultValue"] == 3


def test_a_configuration_elsewhere_is_not_taken_for_one_of_the_same_name(project: Path):
    (project / "local.yaml").write_text("stages: {}")
    (project / "other").mkdir()
    (project / "other/local.yaml").write_text("stages: {}")
    configs = project / "pipelines/config"
    assert refused(project, "--config", "other/local.yaml") == (
        f"other/local.yaml: --config takes the name of a file in {configs}; copy this one there as local.yaml, and "
        "give --config local.\n"
    )


def test_unknown_configuration_lists_those_there_are(project: Path):
    message = refused(project, "--config", "lcoal")
    assert "lcoal.yaml" in message
    for path in (project / "pipelines/config").glob("*.yaml"):
        assert path.stem in message


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("train", "build = None\n", "pipelines/train.py: has the name of a stage; give it another one."),
        ("other", "x = 1\n", "pipelines/other.py: has no function 'build' that returns a pipeline of kfp."),
        ("other", "def build(stages):\n    return 1\n", "pipelines/other.py: has no function 'build' that returns"),
        ("other", "import lost\n", "pipelines/other.py: cannot be imported: No module named 'lost'."),
        ("other", "def build(:\n", "pipelines/other.py: cannot be imported: "),
    ],
)
def test_broken_pipeline_is_one_sentence(project: Path, name: str, content: str, sentence: str):
    (project / f"pipelines/{name}.py").write_text(content)
    assert refused(project).startswith(sentence)


@pytest.mark.parametrize(
    ("option", "value", "shown"),
    [
        ("--registry", "http://lab.example/team", "registry 'http://lab.example/team': not of the form HOST/FOLDER"),
        ("--registry", "lab.example//team", "registry 'lab.example//team': not of the form HOST/FOLDER"),
        ("--tag", "v1\n", "tag 'v1\\n': no tag of an image"),
        ("--tag", "a:b", "tag 'a:b': no tag of an image"),
        ("--tag", "-v1", "tag '-v1': no tag of an image"),
    ],
)
def test_image_names_that_no_cluster_takes_are_refused(option: str, value: str, shown: str, tmp_path: Path):
    result = run_python("compile.py", "--output", tmp_path / "out", f"{option}={value}")
    assert result.returncode == 1
    assert result.stderr.startswith(shown)
    assert result.stderr.endswith(f"; correct it in the config or {option}.\n")
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path):
    (tmp_path / "file").touch()
    result = run_python("compile.py", "--output", tmp_path / "file/build")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == f"{tmp_path}/file/build: cannot be written (Not a directory); give another --output.\n"


@pytest.mark.parametrize(
    ("command", "option"),
    [
        (["compile.py", "--output", ""], "--output"),
        (["compile.py", "--registry="], "--registry"),
        (["sample.py", "--out", ""], "--out"),
        (["adopt.py", "--data", "data", "--curated", ""], "--curated"),
        (["adopt.py", "--data", "data", "--commit", "-m", ""], "-m"),
        (["submit.py", "--local", "--param", ""], "--param"),
        (["submit.py", ""], "an argument"),
    ],
)
def test_an_empty_argument_is_refused_and_not_taken_for_the_default(command: list[str], option: str, tmp_path: Path):
    result = run_python(ROOT / command[0], *command[1:], cwd=tmp_path)
    assert result.returncode == 2
    assert result.stderr == f"{option} is empty; give it a value or leave it out.\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        (["submit.py", "--local", "--dta", "data"], "there is no option --dta; did you mean --data?"),
        (["submit.py", "--local", "--dta=data"], "there is no option --dta; did you mean --data?"),
        (["adopt.py", "--dta", "data"], "there is no option --dta; did you mean --data?"),  # which must be given
        (["export.py", "fiftyone", "out", "--locla"], "there is no option --locla; did you mean --local?"),
        (["compile.py", "--zzz"], "there is no option --zzz; --help lists those that there are."),
        (["sample.py", "x.png"], "unrecognized arguments: x.png."),
        (["adopt.py"], "the following arguments are required: --data."),
    ],
)
def test_a_wrong_option_is_one_sentence(command: list[str], sentence: str, tmp_path: Path):
    result = run_python(ROOT / command[0], *command[1:], cwd=tmp_path)
    assert (result.returncode, result.stdout, result.stderr) == (2, "", f"{sentence}\n")
    assert list(tmp_path.iterdir()) == []


def test_the_beginning_of_an_option_stands_for_it_and_help_shows_the_usage(tmp_path: Path):
    assert run_python(ROOT / "compile.py", "--outp", tmp_path / "build", cwd=tmp_path).returncode == 0
    assert (tmp_path / "build").is_dir()
    shown = run_python(ROOT / "compile.py", "--help", cwd=tmp_path)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert shown.stdout.startswith("usage: compile.py ")
