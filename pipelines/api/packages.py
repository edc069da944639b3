"""The pipelines as packages for Kubeflow Pipelines."""

from pathlib import Path

from pipelines.compiler.config import check_names_are_filled_in, load_config
from pipelines.compiler.packages import write_packages
from pipelines.compiler.stages import Stages
from pipelines.submission.preparation import check_schema


def compile_packages(
    config: str = "local", *, registry: str | None = None, tag: str | None = None, output: str | Path = "build"
) -> list[Path]:
    """Compiles every pipeline, and every component as a pipeline of its own, as compile.py does.

    Args:
        config: a name in pipelines/config.
        registry: where the images are, if not where the config says.
        tag: the tag of the images; of all; by default the config's, else a hash of each one's content.
        output: the folder to write to.

    Returns:
        The packages.

    Raises:
        UserError: something in the configuration, a component or a pipeline is wrong, or the folder cannot be written.
    """
    return list(write_packages(load_stages(config, registry, tag), Path(output)))


def load_stages(config: str, registry: str | None, tag: str | None) -> Stages:
    """The stages for packages, with a configuration that has been checked; the arguments are those of compile_packages.

    Raises:
        UserError: something in the configuration or a component is wrong.
    """
    content = load_config(config)
    check_names_are_filled_in(content, registry)
    check_schema(content)
    return Stages(content, registry, tag)
