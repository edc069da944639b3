"""Compiles every pipeline, and every component as a pipeline of its own, to build/*.yaml."""

import argparse
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kfp.dsl.base_component import BaseComponent

    from pipelines.stages import Stages

PIPELINES = ("training",)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", default="local", help="a name in pipelines/config (default: %(default)s)")
    parser.add_argument("--registry", help="where the images are; bare image names get it (default: the config's)")
    parser.add_argument("--tag", help="the images' tag (default: the config's)")
    parser.add_argument("--output", type=Path, default=Path("build"), help="folder to write to (default: %(default)s)")
    arguments = parser.parse_args()

    warnings.simplefilter("ignore")  # the libraries' notes about Python versions
    from pipelines.config import load_config
    from pipelines.stages import Stages

    stages = Stages(load_config(arguments.config), arguments.registry, arguments.tag)
    targets = {name: arguments.output / f"{name}.yaml" for name in PIPELINES}
    targets |= {stage: arguments.output / "components" / f"{stage}.yaml" for stage in stages.contracts}
    for name, path in targets.items():
        write_pipeline(build_pipeline(name, stages), path)
        print(path)


def build_pipeline(name: str, stages: "Stages") -> "BaseComponent":
    """The pipeline of that name, or the one that runs a single stage."""
    from pipelines import single, training

    return training.build(stages) if name == "training" else single.build(stages, name)


def write_pipeline(pipeline: "BaseComponent", path: Path) -> None:
    from kfp.compiler import Compiler

    from components.files import new_file

    with new_file(path) as temporary:
        Compiler().compile(pipeline, str(temporary))


if __name__ == "__main__":
    main()
