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
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from components.shared.errors import UserError, command_line  # noqa: E402
from pipelines.local.record import RunRecord, find_record  # noqa: E402
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
        once, scaled = draw_samples(folder / "once", 1), draw_samples(folder / "scaled", options.scale)
        figures: dict[str, Any] = {
            "cores": psutil.cpu_count(),
            "import_seconds": time_imports(),
            "stages": {"1x": measure_stages(folder, once), f"{options.scale}x": measure_stages(folder, scaled)},
            "ingest": measure_ingest(folder, once, scaled),
            "train": measure_train(folder, once),
        }
        figures["share_without_fit"] = measure_share_without_fit(folder, once)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(figures, indent=1))


def draw_samples(root: Path, scale: int) -> Path:
    """`scale` samples of different seeds in one folder; the test split of the first."""
    for seed in range(scale):
        draw_sample(root.with_name(f"{root.name}-{seed}"), seed)
        for path in root.with_name(f"{root.name}-{seed}").glob("data/*/*/*.png"):
            target = root / path.relative_to(root.with_name(f"{root.name}-{seed}")).with_name(f"{seed}-{path.name}")
            target.parent.mkdir(parents=True, exist_ok=True)
            path.rename(target)
    shutil.move(root.with_name(f"{root.name}-0") / "test", root / "test")
    return root


def time_imports() -> dict[str, float]:
    """What a process costs before it does anything."""
    modules = ("kfp.dsl", "tensorflow", "tensorflow_data_validation", "tensorflow_transform", "apache_beam")
    seconds = {}
    for module in modules:
        started = time.perf_counter()
        subprocess.run([find_python(), "-c", f"import {module}"], check=True, capture_output=True)
        seconds[module] = round(time.perf_counter() - started, 2)
    return seconds


def measure_stages(folder: Path, data: Path, *params: str) -> dict[str, Any]:
    """Wall seconds and peak memory (of the processes' private and shared pages, MiB) of each stage."""
    run, peaks, _ = watch_run(folder, data, "--param", "epochs=1", *params)
    return {
        name: {"seconds": round(stage["seconds"] or 0, 1), "peak_mib": round(peaks[name] / 2**20)}
        for name, stage in run["stages"].items()
    }


def measure_share_without_fit(folder: Path, data: Path) -> float:
    """The share of `make run` that is not the fit itself."""
    run, _, epochs = watch_run(folder, data)
    count = len(epochs)
    fit = (epochs[-1] - epochs[0]) * count / (count - 1)
    return round(1 - fit / run["seconds"], 3)


def watch_run(folder: Path, data: Path, *arguments: str) -> tuple[RunRecord, dict[str, int], list[float]]:
    """Runs the pipeline here: its run.json, the peak memory of each task in bytes, and when each epoch ended."""
    runs = Path(tempfile.mkdtemp(dir=folder))
    options = ["--local", "--config", "sample", "--data", data / "data", "--test-data", data / "test", "--runs", runs]
    command = [sys.executable, "-u", *map(str, [ROOT / "submit.py", *options, *arguments])]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, encoding="utf-8")
    started: list[str] = []  # tasks
    peaks: dict[str, int] = {}
    epochs: list[float] = []

    def poll() -> None:
        while process.poll() is None:
            if started:
                peaks[started[-1]] = max(peaks.get(started[-1], 0), sum_memory(process.pid))
            for log in runs.glob("*/*/run.log"):
                ended = log.read_text(encoding="utf-8").count("train: epoch ")
                epochs.extend([time.perf_counter()] * (ended - len(epochs)))
            time.sleep(0.1)

    poller = threading.Thread(target=poll)
    poller.start()
    assert process.stdout
    for line in process.stdout:
        if line.split()[2:3] == ["running"]:
            started.append(line.split()[1])
    poller.join()
    record = find_record(runs, "", str(next(runs.glob("[!.]*/*"))))
    if record["state"] != "succeeded":
        raise UserError(f"the run failed: {record}")
    return record, peaks, epochs


def sum_memory(pid: int) -> int:
    """Proportional set size of the children of a process: shared pages count once."""
    total = 0
    for child in psutil.Process(pid).children(recursive=True):
        try:
            total += child.memory_full_info().pss
        except psutil.Error:
            continue
    return total


def measure_ingest(folder: Path, once: Path, scaled: Path) -> dict[str, float]:
    """Images per second beyond the first sample's, so that start-up does not count; and ratios to the bare loop."""
    extra = sum(1 for _ in (scaled / "data").rglob("*.png")) - sum(1 for _ in (once / "data").rglob("*.png"))

    def rate(seconds: Callable[[Path], float]) -> float:
        return extra / (seconds(scaled / "data") - seconds(once / "data"))

    rates = {
        "bare_loop": rate(lambda data: time_bare_loop(data, folder)),
        "bare_loop_decoding": rate(lambda data: time_bare_loop(data, folder, "--decode")),
        "ingest": rate(lambda data: time_ingest(data, folder)),
        "ingest_2_processes": rate(
            lambda data: time_ingest(data, folder, "--direct_num_workers=2", "--direct_running_mode=multi_processing")
        ),
    }
    return {
        **{f"{name}_images_per_second": round(value) for name, value in rates.items()},
        "to_bare_loop": round(rates["ingest"] / rates["bare_loop"], 2),
        "to_bare_loop_decoding": round(rates["ingest"] / rates["bare_loop_decoding"], 2),
        "2_processes_to_1": round(rates["ingest_2_processes"] / rates["ingest"], 2),
    }


def time_bare_loop(data: Path, folder: Path, *options: str) -> float:
    """The seconds that the bare loop takes, the better of two times."""
    arguments = [ROOT / "benchmarks" / "bare_loop.py", data, folder / "bare.tfrecord", *options]
    command = [find_python(), *map(str, arguments)]
    return min(float(subprocess.run(command, check=True, capture_output=True).stdout) for _ in range(2))


def time_ingest(data: Path, folder: Path, *options: str) -> float:
    """The seconds that ingest takes with these options of Beam, the better of two times."""
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
        "import time; from components.ingest.ingestion import ingest_data\n"
        "if __name__ == '__main__':\n"
        f" started = time.perf_counter(); ingest_data(**{arguments!r}); print(time.perf_counter() - started)"
    )
    command = [find_python(), "-c", code]
    outputs = (
        subprocess.run(command, check=True, capture_output=True, cwd=ROOT, encoding="utf-8").stdout for _ in range(2)
    )
    return min(float(output.split()[-1]) for output in outputs)


def measure_train(folder: Path, data: Path) -> dict[str, float]:
    """Steps per second of the train stage and of the plain script, in turns; validation after each epoch included."""
    run, _, _ = watch_run(folder, data, "--param", "epochs=1")
    transform = {name: artifact["uri"] for name, artifact in run["stages"]["transform"]["artifacts"].items()}
    outputs = {f"{name}_output": str(folder / name) for name in ("model", "history", "event_files", "report")}
    stage = (
        "from components.train.settings import TrainingSettings\n"
        "from components.train.training import train_model\n"
        f"settings = TrainingSettings(epochs={EPOCHS}, batch_size=8, learning_rate=1e-4, seed=123)\n"
        f"train_model({transform['transformed_examples']!r}, {transform['transform_graph']!r},"
        f" settings=settings, **{outputs!r})"
    )
    plain = [find_python(), ROOT / "benchmarks" / "plain_script.py", data / "data", EPOCHS]
    steps = sum(1 for _ in (data / "data" / "train").rglob("*.png")) / 8
    rates: dict[str, list[float]] = {"plain_script": [], "train_stage": []}
    for _ in range(2):
        rates["plain_script"].append(steps / time_epoch(list(map(str, plain))))
        rates["train_stage"].append(steps / time_epoch([find_python(), "-c", stage]))
    best = {name: max(values) for name, values in rates.items()}
    return {
        **{f"{name}_steps_per_second": round(value, 1) for name, value in best.items()},
        "to_plain_script": round(best["train_stage"] / best["plain_script"], 2),
    }


def time_epoch(command: list[str]) -> float:
    """The fastest epoch after the first."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, encoding="utf-8", cwd=ROOT)
    assert process.stdout
    ends = [time.perf_counter() for line in process.stdout if "epoch" in line]
    if process.wait() or len(ends) != EPOCHS:
        raise UserError(f"{command}: failed")
    return min(after - before for before, after in zip(ends, ends[1:], strict=False))


if __name__ == "__main__":
    with command_line():
        main()
