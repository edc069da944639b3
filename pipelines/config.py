"""One small typed configuration per environment: `pipelines/config/*.yaml`."""

import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from components.files import UserError

Model = TypeVar("Model", bound=BaseModel)

CONFIGS = Path(__file__).parent / "config"


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Accelerator(Strict):
    type: str  # the resource's name, such as nvidia.com/gpu
    count: int = 1


class StageConfig(Strict):
    """What differs from the component's defaults, and what the stage may use on a cluster (Kubernetes quantities)."""

    parameters: dict[str, Any] = {}
    cpu: str | None = None
    memory: str | None = None
    accelerator: Accelerator | None = None


class Config(Strict):
    registry: str = ""  # where the stage images are, such as europe-west4-docker.pkg.dev/PROJECT/REPOSITORY
    tag: str = "local"
    stages: dict[str, StageConfig] = {}
    _path: Path

    @property
    def path(self) -> Path:
        return self._path


def load_config(name: str) -> Config:
    """The configuration of that name.

    Raises:
        UserError: there is none, or a field is unknown or has the wrong type.
    """
    path = CONFIGS / f"{name}.yaml"
    if not path.is_file():
        names = sorted(file.stem for file in CONFIGS.glob("*.yaml"))
        raise UserError(f"{path}: no such configuration; there are {', '.join(names)}.")
    config = validated(Config, read_yaml(path), path)
    config._path = path
    return config


def read_yaml(path: Path) -> Any:
    try:
        return yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise UserError(f"{path}: cannot be read as YAML: {one_line(error)}") from None


def validated(model: type[Model], content: Any, path: Path) -> Model:
    """`content` of the file `path` as `model`; the first wrong field is named in a UserError."""
    try:
        return model.model_validate(content if content is not None else {})
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise UserError(f"{path}: {field}: {first['msg']}.") from None


def one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """The sentence for a name that does not exist, with the nearest one that does and the list."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, 1)
    hint = f" Did you mean {near[0]}?" if near else ""
    return f"{what} '{name}' does not exist.{hint} There are: {', '.join(known)}."
