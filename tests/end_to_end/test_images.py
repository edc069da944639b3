"""`make test-images`: builds the images by buildah, runs the compiled pipeline in them, and the tests on their Python.

It needs root on a Debian host, and ../shared/tools/base-image. A run must pass what the end-to-end tests ask of one.
"""

import csv
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from pipelines.compiler.code_version import find_commit
from tests.conftest import ROOT, Folders, contents, copy_project, run_in_stages, run_python
from tests.end_to_end import test_end_to_end as end_to_end
from tests.end_to_end.test_end_to_end import REAL, Run, image_files, only_run
from tests.fakes.podman import MissingError, Podman, running_podman

pytestmark = pytest.mark.images
BASE_IMAGE = ROOT / "../shared/tools/base-image"
TAG = "test"
# Builds and runs of buildah in a sandbox: no namespaces of its own, this machine's network and authorities.
ISOLATION = ["--isolation", "chroot"]
BUILD_FLAGS = [*ISOLATION, "--network", "host", "--volume", "/etc/ssl/certs:/etc/ssl/certs:ro"]
COMPONENTS = sorted(path.parent.name for path in ROOT.glob("components/*/component.yaml"))
NEED_BEAM = {"ingest", "validate", "transform", "evaluate", "audit", "judge", "curate"}
# The options of the runs on the sample.
TRAINING = ["--param", "epochs=3"]
IMPROVEMENT = ["--pipeline", "improvement", "--param", "epochs=2", "--param", "augment_to=1100"]


class Image(NamedTuple):
    stage: str
    config: dict[str, Any]  # of the OCI image
    layers: list[str]  # their digests, the base's first

    @property
    def name(self) -> str:
        return f"localhost/{self.stage}:{TAG}"


@pytest.fixture(scope="session")
def base() -> str:
    """The name of an image that stands for python:3.13-slim-trixie."""
    if not BASE_IMAGE.is_file():
        pytest.skip(f"{BASE_IMAGE} is not there: it makes the base image")
    return output_of(BASE_IMAGE)


@pytest.fixture(scope="session")
def images(base: str) -> dict[str, Image]:
    """Every stage's image, built by `make images`."""
    flags = f"BUILD_FLAGS={' '.join(BUILD_FLAGS)}"
    output_of("nice", "make", "-C", ROOT, "images", "BUILDER=buildah", f"BASE={base}", f"TAG={TAG}", flags)
    return {stage: inspected(stage) for stage in COMPONENTS}


def inspected(stage: str) -> Image:
    image = json.loads(output_of("buildah", "inspect", "--type", "image", f"localhost/{stage}:{TAG}"))["OCIv1"]
    return Image(stage, image["config"], image["rootfs"]["diff_ids"])


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    folder = tmp_path_factory.mktemp("sample")
    assert run_python(ROOT / "sample.py", "--out", folder).returncode == 0
    return Folders(folder / "data", folder / "test")


@pytest.fixture(scope="session")
def workplace(images: dict[str, Image], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a copy of the project that runs its stages in the images."""
    folder = tmp_path_factory.mktemp("images")
    project = copy_project(folder / "project")
    shutil.copy(ROOT / "tests/end_to_end/in_images.py", project)
    for name in ("sample", "local"):
        path = project / f"pipelines/config/{name}.yaml"
        path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), "registry": "localhost", "tag": TAG}))
    return folder


@pytest.fixture(scope="session", params=["sample", "real"])
def tiny(request: pytest.FixtureRequest, sample: Folders) -> Folders:
    """The data of the run, under the name that the end-to-end tests give it."""
    if request.param == "sample":
        return sample
    if not REAL.is_dir():
        pytest.skip("the competition's images are not beside the project")
    return Folders(REAL.resolve() / "data", REAL.resolve() / "label_book")


@pytest.fixture(scope="session")
def training(workplace: Path, tiny: Folders, sample: Folders) -> Run:
    """A run of the whole pipeline inside the images."""
    settings = ["--config", "sample", *TRAINING] if tiny == sample else ["--param", "epochs=2"]
    return run_in_images(workplace, workplace, *settings, *end_to_end.data_options(tiny))


@pytest.fixture(scope="session")
def improvement(workplace: Path, sample: Folders) -> Run:
    """A turn of the loop on the sample inside the images; its results/ are not those of the trainings."""
    folder = workplace / "turn"
    folder.mkdir()
    return run_in_images(workplace, folder, "--config", "sample", *IMPROVEMENT, *end_to_end.data_options(sample))


def run_in_images(workplace: Path, folder: Path, *options: Any) -> Run:
    before = set(folder.glob("runs/[!.]*/*"))
    result = run_python(workplace / "project/in_images.py", "--local", "--cold", *options, cwd=folder, timeout=3600)
    assert (result.returncode, result.stderr) == (0, ""), result.stdout + result.stderr
    return only_run(set(folder.glob("runs/[!.]*/*")) - before, result.stdout)


@pytest.fixture
def classes(training: Run, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The classes of the run, also where the end-to-end tests look for theirs."""
    names = manifest(training, "ingest", "examples")["classes"]
    monkeypatch.setattr(end_to_end, "CLASSES", names)
    return names


def manifest(training: Run, stage: str, artifact: str) -> dict[str, Any]:
    return json.loads((training.artifact(stage, artifact) / "examples.json").read_text())


def output_of(*command: Any) -> str:
    result = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout[-5000:] + result.stderr[-5000:]
    return result.stdout.strip()


@pytest.mark.parametrize("stage", COMPONENTS)
def test_image_says_what_it_is_and_runs_as_nobody(images: dict[str, Image], stage: str):
    config = images[stage].config
    assert config["User"] == "65532:65532"
    assert config["Labels"]["org.opencontainers.image.title"] == stage
    assert config["Labels"]["org.opencontainers.image.revision"] == find_commit()
    assert "PYTHONPATH=/app" in config["Env"]


@pytest.mark.parametrize("stage", COMPONENTS)
def test_only_images_whose_stage_needs_beam_carry_it(images: dict[str, Image], stage: str):
    code = "import importlib.util as u; print([n for n in ('apache_beam', 'pip') if u.find_spec(n)])"
    found = run_in(images[stage].name, "python3", "-c", code)
    assert found == ("['apache_beam']" if stage in NEED_BEAM else "[]")


def run_in(image: str, *command: Any, volumes: tuple[str, ...] = ()) -> str:
    """What the command prints inside a container of the image, which is then removed; no network but its own.

    Beam's job service gives its workers the container's name as its address, so that has to be one.
    """
    container = output_of("buildah", "from", "--pull-never", image)
    options = [option for volume in volumes for option in ("--volume", volume)]
    loopback = ["unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
    try:
        return output_of(
            *loopback, "buildah", "run", *ISOLATION, "--hostname", "localhost", *options, container, "--", *command
        )
    finally:
        output_of("buildah", "rm", container)


@pytest.mark.usefixtures("classes")
class TestRun:
    """The end-to-end tests of a run that any data set passes, and those that count the folders."""

    test_output = staticmethod(end_to_end.test_pipeline_prints_each_stage_the_accuracy_and_the_reports)
    test_predictions = staticmethod(end_to_end.test_every_image_has_one_prediction_and_every_prediction_an_image)
    test_saved_model = staticmethod(end_to_end.test_saved_model_reproduces_the_predictions_from_the_files)
    test_metrics = staticmethod(end_to_end.test_metrics_follow_from_the_predictions)

    def test_counts_add_up_to_the_files(self, training: Run, tiny: Folders, classes: list[str]):
        files = Counter(tuple(name.split("/")[:2]) for name in image_files(tiny))
        for stage, artifact in (("ingest", "examples"), ("transform", "transformed_examples")):
            content = manifest(training, stage, artifact)
            assert content["classes"] == classes
            assert content["data_version"] == training.metrics()["data_version"] == dvc_version(tiny.data)
            assert {
                (split, name): images
                for split, each in content["splits"].items()
                for name, images in each["classes"].items()
            } == files
            for split, each in content["splits"].items():
                assert training.metadata(stage, artifact)[f"{split}_images"] == each["images"]
                assert (
                    each["images"] == sum(each["classes"].values()) == sum(shard["images"] for shard in each["shards"])
                )

    def test_transformed_examples_are_what_the_model_takes(self, training: Run):
        folder, content = (
            training.artifact("transform", "transformed_examples"),
            manifest(training, "transform", "transformed_examples"),
        )
        for split in content["splits"].values():
            read = run_in_stages(READ, [str(folder / shard["name"]) for shard in split["shards"]])
            labels = Counter(read["labels"])
            assert [labels[i] for i in range(len(content["classes"]))] == list(split["classes"].values())
            assert 0 <= read["lowest"] < 10 < 245 < read["highest"] <= 255


READ = """
import json, sys
import numpy as np
import tensorflow as tf
spec = {"image": tf.io.FixedLenFeature((32, 32, 3), tf.float32), "label": tf.io.FixedLenFeature((), tf.int64)}
shards = tf.data.TFRecordDataset(json.load(sys.stdin))
parsed = list(shards.map(lambda record: tf.io.parse_single_example(record, spec)))
images = np.stack([example["image"] for example in parsed])
labels = [int(example["label"]) for example in parsed]
print(json.dumps({"labels": labels, "lowest": float(images.min()), "highest": float(images.max())}))
"""


class TestTurn:
    """The end-to-end tests of a turn of the loop that any data set passes, and what the policy did."""

    test_reports = staticmethod(end_to_end.test_improvement_leaves_every_report_under_a_name_that_says_what_it_is)
    test_results = staticmethod(end_to_end.test_improvement_keeps_the_figures_of_the_new_version)
    test_comparison = pytest.mark.parametrize("tiny", ["sample"], indirect=True)(
        staticmethod(end_to_end.test_improvement_compares_both_models_on_the_images_of_before)
    )

    def test_blank_pages_are_dropped_and_the_rest_is_augmented(self, improvement: Run, sample: Folders):
        with (sample.data.parent / "faults.csv").open(newline="") as file:
            faults = list(csv.DictReader(file))
        blank = {row["path"].removeprefix("data/") for row in faults if row["fault"] == "blank"}
        blank = {name for name in blank if name.startswith("train/")}
        with improvement.artifact("curate", "changes").open(newline="") as file:
            dropped = {row["filename"] for row in csv.DictReader(file) if row["action"] == "dropped"}
        assert blank
        assert blank <= dropped
        data = improvement.artifact("curate", "data")
        assert len(list(data.glob("train/*/*"))) + len(list(data.glob("val/*/*"))) == 1100


def dvc_version(folder: Path) -> str:
    """The version that DVC gives a folder: the MD5 of the list of its files."""
    entries = [
        {"md5": hashlib.md5(path.read_bytes()).hexdigest(), "relpath": path.relative_to(folder).as_posix()}
        for path in sorted(folder.rglob("*"), key=lambda path: path.relative_to(folder).as_posix())
        if path.is_file()
    ]
    return hashlib.md5(json.dumps(entries).encode()).hexdigest() + ".dir"


# The two processes that docs/gke.md puts beside a stage, and the stage.
ON_POOL = """
python -m apache_beam.runners.portability.local_job_service_main --port=8099 --staging_dir=/tmp/staging &
python -m apache_beam.runners.worker.worker_pool_main --service_port=50000 &
"$@"
ended=$?
kill %1 %2
exit $ended
"""


def test_the_image_of_a_stage_is_also_a_pool_of_beam_workers(
    images: dict[str, Image], workplace: Path, sample: Folders, tmp_path: Path
):
    training = run_in_images(workplace, tmp_path, "--component", "ingest", *end_to_end.data_options(sample))
    given = training.summary["stages"]["ingest"]["parameters"]
    runner = ["--runner=PortableRunner", "--job_endpoint=localhost:8099"]
    pool = ["--environment_type=EXTERNAL", "--environment_config=localhost:50000"]
    given = {**given, "beam_options": [*runner, *pool, f"--temp_location={tmp_path}/shared"]}
    tmp_path.chmod(0o777)
    outputs = {name: {"artifacts": [{"name": name, "uri": f"{tmp_path}/{name}"}]} for name in ("examples", "summary")}
    executor_input = {
        "inputs": {"parameterValues": given},
        "outputs": {"artifacts": outputs, "outputFile": f"{tmp_path}/executor_output.json"},
    }
    contract = yaml.safe_load((ROOT / "components/ingest/component.yaml").read_text())["implementation"]["container"]
    command = [*contract["command"], *contract["args"][:-1], json.dumps(executor_input)]
    volumes = (f"{tmp_path}:{tmp_path}", f"{sample.data.parent}:{sample.data.parent}:ro")
    run_in(images["ingest"].name, "sh", "-c", ON_POOL, "sh", *command, volumes=volumes)
    written = contents(tmp_path / "examples")
    assert written == contents(training.artifact("ingest", "examples"))
    assert contents(tmp_path / "shared") == {}, "what the workers left is removed"


@pytest.fixture(scope="session")
def podman(images: dict[str, Image]) -> Iterator[Podman]:
    """Podman, with the images that buildah has built."""
    store = json.loads(output_of("buildah", "info"))["store"]
    with tempfile.TemporaryDirectory(prefix="podman-") as home:
        try:
            with running_podman(Path(home), driver=store["GraphDriverName"], images=store["GraphRoot"]) as podman:
                yield podman
        except MissingError as error:
            pytest.skip(f"no containers here: {error}")


@pytest.mark.parametrize("tiny", ["sample"], indirect=True)
def test_docker_gives_the_same_bytes_as_the_local_runner(
    podman: Podman, workplace: Path, training: Run, improvement: Run, sample: Folders, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("DOCKER_HOST", f"unix://{podman.socket}")
    folder = workplace / "docker"
    folder.mkdir()
    compared = ["--pipeline", "comparison", "--before", training.folder, "--from-run", improvement.folder]
    comparison = run_in_images(workplace, workplace / "turn", "--config", "sample", *compared)
    data = end_to_end.data_options(sample)
    for run, options in ((training, [*TRAINING, *data]), (improvement, [*IMPROVEMENT, *data]), (comparison, compared)):
        again = run_in_docker(workplace, folder, "--config", "sample", *options)
        assert end_to_end.read_made(again) == end_to_end.read_made(run)
        assert {path.stat().st_uid for path in again.folder.rglob("*")} == {os.getuid()}
        assert podman.list_containers() == []


def run_in_docker(workplace: Path, folder: Path, *options: Any) -> Run:
    before = set(folder.glob("runs/[!.]*/*"))
    command = [workplace / "project/submit.py", "--local", "--runner", "docker", "--no-cache", *options]
    result = run_python(*command, cwd=folder, timeout=3600)
    assert (result.returncode, result.stderr) == (0, ""), result.stdout + result.stderr
    return only_run(set(folder.glob("runs/[!.]*/*")) - before, result.stdout)


def test_stages_pass_their_tests_on_the_python_of_the_images(base: str):
    output_of("nice", "buildah", "build", "--layers", *BUILD_FLAGS, "--build-arg", f"BASE={base}",
              "--tag", f"tests:{TAG}", "--file", ROOT / "containers/tests/Dockerfile", ROOT)  # fmt: skip
    # Without pytest's comparisons: of large files they take all memory.
    tests = "python3 -m pytest -p no:cacheprovider --color=no --tb=short --assert=plain tests/components tests/models"
    run = ["sh", "-c", f"cd {ROOT} && {tests}"]
    said = run_in(f"localhost/tests:{TAG}", *run, volumes=(f"{ROOT}:{ROOT}:ro",))
    assert " passed" in said.splitlines()[-1]


def test_images_share_what_every_stage_needs(images: dict[str, Image], capsys: pytest.CaptureFixture[str]):
    sizes = layer_sizes()
    used = Counter(layer for image in images.values() for layer in image.layers)
    shared = {layer for layer, count in used.items() if count == len(images)}
    with capsys.disabled():
        print(f"\n{'image':<10}{'MB':>8}{'unshared':>10}")
        for image in images.values():
            own = sum(sizes[layer] for layer in image.layers if used[layer] == 1)
            print(f"{image.stage:<10}{sum(sizes[layer] for layer in image.layers) / 1e6:8.0f}{own / 1e6:10.0f}")
        print(f"{'all':<10}{sum(sizes[layer] for layer in used) / 1e6:8.0f}")
    for image in images.values():
        assert set(image.layers[: len(shared)]) == shared
        assert sum(sizes[layer] for layer in image.layers if layer not in shared) < 0.5 * sum(
            sizes[layer] for layer in shared
        )


def layer_sizes() -> dict[str, int]:
    """Bytes of each layer in buildah's store, by its digest."""
    store = json.loads(output_of("buildah", "info"))["store"]
    path = Path(store["GraphRoot"], f"{store['GraphDriverName']}-layers", "layers.json")
    return {
        layer["diff-digest"]: layer["diff-size"]
        for layer in json.loads(path.read_text(encoding="utf-8"))
        if "diff-digest" in layer
    }
