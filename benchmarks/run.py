"""Measures the stages on drawn images, and writes the figures to build/benchmark.json.

    python benchmarks/run.py [--scale 10] [--output build/benchmark.json]

Everything is measured in one run and compared as ratios, since machines differ and are noisy.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from pipelines.local.stages_environment import find_python  # noqa: E402
from sample import draw_sample  # noqa: E402

EPOCHS = 4  # of each training measured; the first one, with its tracing, does not count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=int, default=10, help="how many times the data (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "benchmark.json")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        once, scaled = draw(folder / "once", 1), draw(folder / "scaled", options.scale)
        figures = {
            "cores": psutil.cpu_count(),
            "import_seconds": imports(),
            "stages": {"1x": stages(folder, once), f"{options.scale}x": stages(folder, scaled)},
            "ingest": ingest(folder, once, scaled),
            "train": train(folder, once),
        }
        figures["share_without_fit"] = share_without_fit(folder, once)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(figures, indent=1) + "\n")
    print(json.dumps(figures, indent=1))


def draw(root: Path, scale: int) -> Path:
    """`scale` samples of different seeds in one folder; the test split of the first."""
    for seed in range(scale):
        draw_sample(root.with_name(f"{root.name}-{seed}"), seed)
        for path in root.with_name(f"{root.name}-{seed}").glob("data/*/*/*.png"):
            target = root / path.relative_to(root.with_name(f"{root.name}-{seed}")).with_name(f"{seed}-{path.name}")
            target.parent.mkdir(parents=True, exist_ok=True)
            path.rename(target)
    shutil.move(root.with_name(f"{root.name}-0") / "test", root / "test")
    return root


def imports() -> dict[str, float]:
    """What a process costs before it does anything."""
    modules = ("kfp.dsl", "tensorflow", "tensorflow_data_validation", "tensorflow_transform", "apache_beam")
    found = {}
    for module in modules:
        started = time.perf_counter()
        subprocess.run([find_python(), "-c", f"import {module}"], check=True, capture_output=True)
        found[module] = round(time.perf_counter() - started, 2)
    return found


def stages(folder: Path, data: Path, *params: str) -> dict[str, Any]:
    """Wall seconds and peak memory (of the processes' private and shared pages, MiB) of each stage."""
    run, peaks, _ = watched_run(folder, data, "--param", "epochs=1", *params)
    return {
        name: {"seconds": round(stage["seconds"], 1), "peak_mib": round(peaks[name] / 2**20)}
        for name, stage in run["stages"].items()
    }


def share_without_fit(folder: Path, data: Path) -> float:
    """The share of `make run` that is not the fit itself."""
    run, _, epochs = watched_run(folder, data)
    count = len(epochs)
    fit = (epochs[-1] - epochs[0]) * count / (count - 1)
    return round(1 - fit / run["seconds"], 3)


def watched_run(folder: Path, data: Path, *arguments: str) -> tuple[dict[str, Any], dict[str, int], list[float]]:
    """A local run: its summary, the peak memory of each stage in bytes, and when each epoch ended."""
    runs = Path(tempfile.mkdtemp(dir=folder))
    command = [
        ROOT / "submit.py",
        "--local",
        "--config",
        "sample",
        "--data",
        data / "data",
        "--test-data",
        data / "test",
    ]
    process = subprocess.Popen(
        [sys.executable, "-u", *map(str, command), "--runs", str(runs), *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        text=True,
    )
    current: list[str] = []
    peaks: dict[str, int] = {}
    epochs: list[float] = []

    def poll() -> None:
        while process.poll() is None:
            if current:
                peaks[current[-1]] = max(peaks.get(current[-1], 0), tree_memory(process.pid))
            for log in runs.glob("*/*/run.log"):
                done = log.read_text().count("train: epoch ")
                epochs.extend([time.perf_counter()] * (done - len(epochs)))
            time.sleep(0.1)

    poller = threading.Thread(target=poll)
    poller.start()
    assert process.stdout
    for line in process.stdout:
        if line.split()[2:3] == ["running"]:
            current.append(line.split()[1])
    poller.join()
    summary = json.loads(next(runs.glob("*/*/run.json")).read_text())
    if summary["state"] != "succeeded":
        raise SystemExit(f"the run failed: {summary}")
    return summary, peaks, epochs


def tree_memory(pid: int) -> int:
    """Proportional set size of the children of a process: shared pages count once."""
    total = 0
    for child in psutil.Process(pid).children(recursive=True):
        try:
            total += child.memory_full_info().pss
        except psutil.Error:
            continue
    return total


def ingest(folder: Path, once: Path, scaled: Path) -> dict[str, float]:
    """Images per second beyond the first sample's, so that start-up does not count; and ratios to the bare loop."""
    extra = sum(1 for _ in (scaled / "data").rglob("*.png")) - sum(1 for _ in (once / "data").rglob("*.png"))

    def rate(seconds: Any) -> float:
        return extra / (seconds(scaled / "data") - seconds(once / "data"))

    rates = {
        "bare_loop": rate(lambda data: loop_seconds(data, folder)),
        "bare_loop_decoding": rate(lambda data: loop_seconds(data, folder, "--decode")),
        "ingest": rate(lambda data: ingest_seconds(data, folder)),
        "ingest_2_processes": rate(
            lambda data: ingest_seconds(
                data, folder, "--direct_num_workers=2", "--direct_running_mode=multi_processing"
            )
        ),
    }
    return {
        **{f"{name}_images_per_second": round(value) for name, value in rates.items()},
        "to_bare_loop": round(rates["ingest"] / rates["bare_loop"], 2),
        "to_bare_loop_decoding": round(rates["ingest"] / rates["bare_loop_decoding"], 2),
        "2_processes_to_1": round(rates["ingest_2_processes"] / rates["ingest"], 2),
    }


def loop_seconds(data: Path, folder: Path, *options: str) -> float:
    command = [find_python(), ROOT / "benchmarks" / "bare_loop.py", data, folder / "bare.tfrecord", *options]
    return min(float(subprocess.run(command, check=True, capture_output=True).stdout) for _ in range(2))


def ingest_seconds(data: Path, folder: Path, *options: str) -> float:
    beam_options = ["--runner=FnApiRunner", *options]
    arguments = {
        "data_uri": str(data),
        "test_data_uri": "",
        "data_version": "",
        "classes": [],
        "on_bad_image": "fail",
        "max_images": 10**6,
        "max_pixels": 10**8,
        "shards": 8,
        "beam_options": beam_options,
        "output": str(folder / "ingested"),
    }
    code = (
        "import time; from components.ingest.ingestion import ingest_folders\n"
        "if __name__ == '__main__':\n"
        f" started = time.perf_counter(); ingest_folders(**{arguments!r}); print(time.perf_counter() - started)"
    )
    command = [find_python(), "-c", code]
    outputs = (subprocess.run(command, check=True, capture_output=True, cwd=ROOT, text=True).stdout for _ in range(2))
    return min(float(output.split()[-1]) for output in outputs)


def train(folder: Path, data: Path) -> dict[str, float]:
    """Steps per second of the train stage and of the plain script, in turns; validation after each epoch included."""
    run, _, _ = watched_run(folder, data, "--param", "epochs=1")
    transform = {name: artifact["uri"] for name, artifact in run["stages"]["transform"]["artifacts"].items()}
    stage = (
        "from components.train.training import Settings, train_model\n"
        f"train_model({transform['transformed_examples']!r}, {transform['transform_graph']!r},"
        f" Settings({EPOCHS}, 8, 1e-4, 123), *[{str(folder / 'model')!r} + name for name in 'mhr'])"
    )
    plain = [find_python(), ROOT / "benchmarks" / "plain_script.py", data / "data", EPOCHS]
    steps = sum(1 for _ in (data / "data" / "train").rglob("*.png")) / 8
    rates: dict[str, list[float]] = {"plain_script": [], "train_stage": []}
    for _ in range(2):
        rates["plain_script"].append(steps / epoch_seconds(list(map(str, plain))))
        rates["train_stage"].append(steps / epoch_seconds([find_python(), "-c", stage]))
    best = {name: max(values) for name, values in rates.items()}
    return {
        **{f"{name}_steps_per_second": round(value, 1) for name, value in best.items()},
        "to_plain_script": round(best["train_stage"] / best["plain_script"], 2),
    }


def epoch_seconds(command: list[str]) -> float:
    """The fastest epoch after the first."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=ROOT)
    assert process.stdout
    ends = [time.perf_counter() for line in process.stdout if "epoch" in line]
    if process.wait() or len(ends) != EPOCHS:
        raise SystemExit(f"{command}: failed")
    return min(after - before for before, after in zip(ends, ends[1:], strict=False))


if __name__ == "__main__":
    main()
