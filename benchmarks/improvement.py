"""What the audit, the curation and the augmentation do for the accuracy of the fixed model.

    python benchmarks/improvement.py --data DIR --test-data DIR --seeds 1 2 3

Trains on the data as it is (untouched), curated by the policy without augmentation (curated), augmented without
curation but for what train shares with val and test (augmented), and both (all), each with the settings of --config
and each seed, through submit.py. Every model is measured on the untouched val images and on the test images; its
accuracy on its own val split is shown next to it. Finished trainings are kept in --out: run it again to continue.
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.runs import find_finished  # noqa: E402

# No confidence reaches 2.
NEVER = {"relabel_confidence": 2, "drop_confidence": 2, "doubt_confidence": 2, "duplicates": "keep"}
CURATIONS: dict[str, dict[str, Any]] = {"curated": {"augment_to": 0}, "augmented": NEVER, "all": {}}
VARIANTS = ("untouched", *CURATIONS)
HEADER = ("variant", "train images", "val, untouched", "test", "val of its own version", "seeds")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--test-data", type=Path, required=True)
    parser.add_argument("--config", default="competition", help="a name in pipelines/config (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=ROOT / "build/improvement", help="default: build/improvement")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=VARIANTS)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    folders = ["--data", options.data.resolve(), "--test-data", options.test_data.resolve()]
    first = run(options, f"untouched-{options.seeds[0]}", *folders, param={"seed": options.seeds[0]})
    for variant in options.variants:
        for seed in options.seeds:
            figures = measured(options, variant, seed, folders, first)
            write(options.out / "figures" / f"{variant}-{seed}.json", figures)
    print(
        table(
            [json.loads(path.read_text(encoding="utf-8")) for path in sorted((options.out / "figures").glob("*.json"))]
        )
    )


def measured(
    options: argparse.Namespace, variant: str, seed: int, folders: list[Any], first: dict[str, Any]
) -> dict[str, Any]:
    """The accuracies of the variant, trained with the seed; `first` is a run on the untouched data."""
    name = f"{variant}-{seed}"
    if variant != "untouched":
        audit = run(options, "audit", "--component", "audit", "--from-run", first["folder"])
        settings = {**CURATIONS[variant], "seed": seed}
        curate = run(options, f"curate-{name}", "--component", "curate", "--from-run", audit["folder"], param=settings)
        folders = ["--data", curate["artifacts"]["data"]]
    training = run(options, name, *folders, param={"seed": seed})
    own = metrics(training)
    examples = {"examples_uri": first["artifacts"]["examples"]}
    evaluate = run(
        options, f"yardstick-{name}", "--component", "evaluate", "--from-run", training["folder"], param=examples
    )
    yardstick = metrics(evaluate)
    return {
        "variant": variant,
        "seed": seed,
        "train_images": own["train"]["images"],
        "val": yardstick["val"]["accuracy"],
        "test": yardstick["test"]["accuracy"],
        "own_val": own["val"]["accuracy"],
    }


def run(options: argparse.Namespace, name: str, *arguments: Any, param: dict[str, Any] | None = None) -> dict[str, Any]:
    """The summary of the run of that experiment, which is run if it has not succeeded yet."""
    runs = options.out / "runs"
    given = [f"--param={key}={value}" for key, value in (param or {}).items()]
    command = [ROOT / "submit.py", "--local", "--config", options.config, "--runs", runs, "--experiment", name]
    if not (found := find_finished(runs / name)):
        print(f"{name}: running", flush=True)
        result = subprocess.run(
            [sys.executable, *map(str, (*command, *arguments, *given))], cwd=options.out, stdout=subprocess.DEVNULL
        )
        found = find_finished(runs / name)
        if result.returncode or not found:
            sys.exit(f"{name}: failed; its log is in {runs / name}.")
    return found


def metrics(summary: dict[str, Any]) -> dict[str, Any]:
    return json.loads((Path(summary["artifacts"]["evaluation"]) / "evaluation.json").read_text(encoding="utf-8"))


def write(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content) + "\n", encoding="utf-8")


def table(figures: list[dict[str, Any]]) -> str:
    rows = [HEADER, ("---",) * len(HEADER)]
    for variant in VARIANTS:
        if own := [each for each in figures if each["variant"] == variant]:
            images = f"{statistics.mean(each['train_images'] for each in own):,.0f}"
            accuracies = [spread([each[name] for each in own]) for name in ("val", "test", "own_val")]
            rows.append((variant, images, *accuracies, ", ".join(str(each["seed"]) for each in own)))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def spread(values: list[float]) -> str:
    """Their mean, and in brackets the least and the most."""
    return f"{statistics.mean(values):.3f} ({min(values):.3f} to {max(values):.3f})"


if __name__ == "__main__":
    main()
