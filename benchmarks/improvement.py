"""What the audit, the curation and the augmentation do for the accuracy of the fixed model.

    python benchmarks/improvement.py --data DIR --test-data DIR --seeds 1 2 3

Trains on the data as it is (untouched), curated by the policy without augmentation (curated), augmented without
curation but for what train shares with val and test (augmented), both (all), and both with a policy that drops whatever
is likelier of another class, up to half of a class (strict), each with the settings of --config and each seed, through
submit.py. Every model is measured on the untouched val images and on the test images; its accuracy on its own val split
is shown next to it.
Finished trainings are kept in --out: run it again to continue.

The variant moved is a cross-validation, which costs --folds trainings for each seed. In each fold, all parts of val but
one move to train (near duplicates always stay), and the model is measured on the part that stayed. Its accuracy on val
pools all parts, so that each image is judged by a model that has not learned from it; its accuracy on test is the mean
of the folds' models.
"""

import argparse
import csv
import json
import statistics
import subprocess
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.runs import find_finished  # noqa: E402

# No confidence reaches 2.
NEVER = {"relabel_confidence": 2, "drop_confidence": 2, "doubt_confidence": 2, "duplicates": "keep"}
CURATIONS: dict[str, dict[str, Any]] = {
    "curated": {"augment_to": 0},
    "augmented": NEVER,
    "all": {},
    "strict": {"doubt_confidence": 0.5, "most_dropped": 0.5},
    "moved": {},
}
VARIANTS = ("untouched", *CURATIONS)
HEADER = ("variant", "train images", "val, untouched", "test", "val of its own version", "seeds")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--test-data", type=Path, required=True)
    parser.add_argument("--config", default="competition", help="a name in pipelines/config (default: %(default)s)")
    parser.add_argument(
        "--out",
        type=Path,
        default=ROOT / "build/improvement",
        help="of one data set and config; default: build/improvement",
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=VARIANTS)
    parser.add_argument("--folds", type=int, default=2, help="of the variant moved, 2 or more (default: %(default)s)")
    options = parser.parse_args()
    if options.folds < 2:
        parser.error("--folds is the number of parts of val, 2 or more")
    options.out = options.out.resolve()  # the runs have it as their folder
    options.out.mkdir(parents=True, exist_ok=True)
    folders = ["--data", options.data.resolve(), "--test-data", options.test_data.resolve()]
    first = run(options, f"untouched-{options.seeds[0]}", *folders, param={"seed": options.seeds[0]})
    for variant in options.variants:
        for seed in options.seeds:
            measure = cross_validated if variant == "moved" else measured
            figures = measure(options, variant, seed, folders, first)
            write(options.out / "figures" / f"{figures['variant'].replace(' ', '-')}-{seed}.json", figures)
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
        folders = curated(options, name, first, {**CURATIONS[variant], "seed": seed})
    training = run(options, name, *folders, param={"seed": seed})
    return {"variant": variant, "seed": seed, **compared(options, name, training, first)}


def cross_validated(
    options: argparse.Namespace, variant: str, seed: int, folders: list[Any], first: dict[str, Any]
) -> dict[str, Any]:
    """The same of models that each learned from all parts of val but one, which is measured."""
    trainings, figures = [], []
    for fold in range(options.folds):
        name = f"{variant}-{options.folds}-{fold}-{seed}"
        # Consecutive seeds keep one part of val after the other.
        settings = {"val_to_train": 1 - 1 / options.folds, "seed": seed * options.folds + fold}
        folders = curated(options, name, first, {**CURATIONS[variant], **settings})
        trainings.append(run(options, name, *folders, param={"seed": seed}))
        figures.append(compared(options, name, trainings[-1], first))
    val = pool([find_right(training) for training in trainings], find_right(first).keys())
    means = {name: statistics.mean(each[name] for each in figures) for name in ("train_images", "test", "own_val")}
    return {"variant": f"{variant} in {options.folds}", "seed": seed, **means, "val": val}


def curated(options: argparse.Namespace, name: str, first: dict[str, Any], settings: dict[str, Any]) -> list[Any]:
    """The arguments that name the folder that curate makes of the untouched data, by one audit for all."""
    audit = run(options, f"audit-{options.seeds[0]}", "--component", "audit", "--from-run", first["folder"])
    curate = run(options, f"curate-{name}", "--component", "curate", "--from-run", audit["folder"], param=settings)
    return ["--data", curate["artifacts"]["data"]]


def compared(options: argparse.Namespace, name: str, training: dict[str, Any], first: dict[str, Any]) -> dict[str, Any]:
    """The accuracies of a model, on the untouched images and on the val split of its own version."""
    own = metrics(training)
    examples = {"examples_uri": first["artifacts"]["examples"]}
    evaluate = run(
        options, f"yardstick-{name}", "--component", "evaluate", "--from-run", training["folder"], param=examples
    )
    yardstick = metrics(evaluate)
    return {
        "train_images": own["train"]["images"],
        "val": yardstick["val"]["accuracy"],
        "test": yardstick["test"]["accuracy"],
        "own_val": own["val"]["accuracy"],
    }


def find_right(training: dict[str, Any]) -> dict[str, bool]:
    """Whether the model is right on each val image of its version, by file name; curate keeps the names of those."""
    with open(training["artifacts"]["predictions"], newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "val"]
    return {row["filename"]: row["label"] == row["prediction"] for row in rows}


def pool(folds: Sequence[Mapping[str, bool]], images: Collection[str]) -> float:
    """The accuracy on the images, of which each is in the val split of one fold, or of some that count as one.

    Some are in several: curate leaves at least ten of each class in val, and those with a duplicate in train or test.
    """
    answers = {image: [fold[image] for fold in folds if image in fold] for image in images}
    if missing := sorted(image for image, right in answers.items() if not right):
        sys.exit(f"{missing[0]} is in no val split of the folds, as are {len(missing) - 1} others.")
    return statistics.mean(statistics.mean(right) for right in answers.values())


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
    variants = {each["variant"] for each in figures}
    for variant in sorted(variants, key=lambda name: (VARIANTS.index(name.split()[0]), len(name), name)):
        own = [each for each in figures if each["variant"] == variant]
        images = f"{statistics.mean(each['train_images'] for each in own):,.0f}"
        accuracies = [spread([each[name] for each in own]) for name in ("val", "test", "own_val")]
        rows.append((variant, images, *accuracies, ", ".join(str(each["seed"]) for each in own)))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def spread(values: list[float]) -> str:
    """Their mean, and in brackets the least and the most."""
    return f"{statistics.mean(values):.3f} ({min(values):.3f} to {max(values):.3f})"


if __name__ == "__main__":
    main()
