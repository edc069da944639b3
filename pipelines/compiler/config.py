"""One small typed configuration per environment: `pipelines/config/*.yaml`."""

import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from components.shared.errors import UserError

Model = TypeVar("Model", bound=BaseModel)

CONFIGS = Path(__file__).parents[1] / "config"


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


Cpu = Annotated[str, Field(pattern=r"^\d+(\.\d+)?m?$")]  # Kubernetes quantities
Memory = Annotated[str, Field(pattern=r"^\d+(\.\d+)?([EPTGMK]i?)?$")]
Duration = Annotated[str, Field(pattern=r"^\d+s$")]


class Resources(Strict):
    cpu: Cpu | None = None
    memory: Memory | None = None


class Accelerator(Strict):
    type: str  # the resource's name, such as nvidia.com/gpu
    count: int = 1


class Toleration(Strict):
    key: str | None = None
    operator: Literal["Exists", "Equal"] | None = None
    value: str | None = None
    effect: Literal["NoExecute", "NoSchedule", "PreferNoSchedule"] | None = None


class StageConfig(Strict):
    """What differs from the component's defaults, and what the stage may use on a cluster."""

    parameters: dict[str, Any] = {}
    requests: Resources = Resources()
    limits: Resources = Resources()
    accelerator: Accelerator | None = None
    node_selector: dict[str, str] = {}
    tolerations: list[Toleration] = []
    retries: int = Field(default=0, ge=0)
    backoff: Duration = "60s"  # before the first retry; doubled before each one more
    timeout: int | None = Field(default=None, gt=0)  # seconds
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] | None = None
    caching: bool = True


class Endpoint(Strict):
    """Where Kubeflow Pipelines answers, and how it knows who asks.

    Without a host the kubeconfig leads there. A host on googleusercontent.com (the inverse proxy) gets a token of
    your Google credentials, one behind IAP its `client_id`'s, and `token_file` serves any other.
    """

    host: str = Field(default="", description="its address, https://...; empty: the cluster of the kubeconfig")
    namespace: str = Field(default="kubeflow", description="the Kubernetes namespace it is installed in")
    user_namespace: str = Field(default="", description="the namespace of the runs; in multi-user mode only")
    kube_context: str = Field(default="", description="of the kubeconfig; empty: the current one")
    client_id: str = Field(default="", description="the OAuth client id of IAP")
    token_file: str = Field(
        default="", description="a file with a bearer token; it may change while a run is waited for"
    )
    ca_file: str = Field(default="", description="the certificate authority of the host's certificate")
    ui: str = Field(default="", description="the address of its pages, if not the host")


class Config(Strict):
    name: str  # its file's
    endpoint: Endpoint = Endpoint()
    pipeline_root: str = ""  # where a cluster keeps artifacts: gs://BUCKET/FOLDER
    service_account: str = ""  # the Kubernetes service account of the runs
    dvc_remote: str = ""  # where the cluster reads data versions; empty: DVC's default remote
    registry: str = ""  # where the stage images are, such as europe-west4-docker.pkg.dev/PROJECT/REPOSITORY
    tag: str = ""  # of the images; empty: the git commit of what is in them
    defaults: StageConfig = StageConfig()  # of every stage
    stages: dict[str, StageConfig] = {}

    @property
    def path(self) -> Path:
        return CONFIGS / f"{self.name}.yaml"

    def without_cache(self, *stages: str) -> "Config":
        off = {name: self.stage(name).model_copy(update={"caching": False}) for name in stages}
        return self.model_copy(update={"stages": {**self.stages, **off}})

    def stage(self, name: str) -> StageConfig:
        """The stage's own settings over the defaults."""
        own = self.stages.get(name, StageConfig())
        return self.defaults.model_copy(update={field: getattr(own, field) for field in own.model_fields_set})


def load_config(name: str) -> Config:
    """The configuration of that name.

    Raises:
        UserError: there is none, or a field is unknown or has the wrong type.
    """
    path = CONFIGS / f"{name}.yaml"
    if not path.is_file():
        names = sorted(file.stem for file in CONFIGS.glob("*.yaml"))
        raise UserError(f"{path}: no such configuration; there are {', '.join(names)}.")
    content = read_yaml(path) or {}
    return validated(Config, {**content, "name": name} if isinstance(content, dict) else content, path)


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


def one_line(error: object) -> str:
    return " ".join(str(error).split())


def first_sentence(error: object) -> str:
    return one_line(getattr(error, "message", error)).split(". ")[0].rstrip(".")


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """The sentence for a name that does not exist, with the nearest one that does and the list."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, 1)
    hint = f" Did you mean {near[0]}?" if near else ""
    return f"{what} '{name}' does not exist.{hint} There are: {', '.join(known)}."
