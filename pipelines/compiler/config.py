"""One small typed configuration per environment: `pipelines/config/*.yaml`."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from components.shared.cloud_storage import is_address
from components.shared.errors import UserError, describe_validation, quote
from pipelines.compiler.yaml_files import read_yaml

AnyModel = TypeVar("AnyModel", bound=BaseModel)

CONFIGS = Path(__file__).parents[1] / "config"

# What pydantic finds, by its type, where its own words do not say what to do.
_NO_MAPPING = "must hold names with values, NAME: VALUE"
_PLACEHOLDER = re.compile(r"\b(?:REGION|PROJECT|BUCKET)\b")  # of pipelines/config/gke.yaml
_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = re.compile(rf"{_LABEL}(\.{_LABEL})*")  # RFC 1123, as Kubernetes wants it
_PROBLEMS = {
    "model_type": _NO_MAPPING,
    "dict_type": _NO_MAPPING,
    "string_type": "must be a string; put it in quotes",
    "extra_forbidden": "is not a name that may stand here",
}


class Strict(BaseModel):
    """A model that refuses fields it does not know."""

    model_config = ConfigDict(extra="forbid")


Cpu = Annotated[str, Field(pattern=r"^\d+(\.\d+)?m?$")]  # Kubernetes quantities
Memory = Annotated[str, Field(pattern=r"^\d+(\.\d+)?([EPTGMK]i?)?$")]
Duration = Annotated[str, Field(pattern=r"^\d+s$")]


class Resources(Strict):
    """Amounts as Kubernetes writes them."""

    cpu: Cpu | None = None
    memory: Memory | None = None


class Accelerator(Strict):
    """GPUs or the like, for a stage."""

    type: str  # the resource's name, such as nvidia.com/gpu
    count: int = Field(default=1, ge=1, strict=True)  # strict: `yes` is no number


class Toleration(Strict):
    """A taint of nodes that a stage tolerates, as Kubernetes writes it."""

    key: str | None = None
    operator: Literal["Exists", "Equal"] | None = None
    value: str | None = None
    effect: Literal["NoExecute", "NoSchedule", "PreferNoSchedule"] | None = None


class StageConfig(Strict):
    """What differs from the component's defaults, and what the cluster is told of the stage."""

    parameters: dict[str, Any] = {}
    requests: Resources = Resources()  # what its node must have free
    limits: Resources = Resources()  # what it may use
    accelerator: Accelerator | None = None
    node_selector: dict[str, str] = {}  # labels that its node must have
    tolerations: list[Toleration] = []
    retries: int = Field(default=0, ge=0, strict=True)  # times that Kubernetes starts it again after a failure
    backoff: Duration = "60s"  # before the first retry; doubled before each one more
    timeout: int | None = Field(default=None, gt=0, strict=True)  # seconds
    # When the node fetches the image.
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] | None = None
    caching: bool = Field(default=True, strict=True)


# What becomes a document for Kubernetes in a package, beside the pipeline, or means its containers: Vertex AI Pipelines
# refuses a package of two documents, and takes no requests.
_FOR_KUBERNETES = ("requests", "node_selector", "tolerations", "timeout", "image_pull_policy")


# Of Vertex AI's largest machine the CPUs, and the bytes of memory; and the form of its accelerators' names.
_VERTEX_CPUS, _VERTEX_MEMORY = 96, 624 * 10**9
_VERTEX_ACCELERATOR = re.compile(r"(NVIDIA|TPU)_[A-Z0-9_]+")


def _find_unfit_for_vertex(stage: StageConfig) -> Iterator[str]:
    """What of a stage's settings no machine of Vertex AI Pipelines has, a field and the reason each."""
    from kubernetes.utils.quantity import parse_quantity  # here, since its package takes long and only this needs it

    if (cpu := stage.limits.cpu) and parse_quantity(cpu) > _VERTEX_CPUS:
        yield f"limits.cpu: is {cpu}, but a machine of Vertex AI Pipelines has at most {_VERTEX_CPUS} CPUs"
    if (memory := stage.limits.memory) and parse_quantity(memory) > _VERTEX_MEMORY:
        yield f"limits.memory: is {memory}, but a machine of Vertex AI Pipelines has at most 624G"
    if stage.accelerator and not _VERTEX_ACCELERATOR.fullmatch(stage.accelerator.type):
        yield (
            f"accelerator.type: is {quote(stage.accelerator.type)}, but Vertex AI Pipelines has names of its own, such "
            "as NVIDIA_TESLA_T4"
        )


class Endpoint(Strict):
    """The address of Kubeflow Pipelines, and the credentials for it.

    Without a host, the kubeconfig is used. A host on googleusercontent.com (the inverse proxy) gets a token of your
    Google credentials, a host behind IAP one for its `client_id`, and any other host the token in `token_file` and the
    headers in `header_file`.
    """

    host: str = Field(default="", description="its address, https://...; empty: the cluster of the kubeconfig")
    namespace: str = Field(default="kubeflow", description="the Kubernetes namespace it is installed in")
    user_namespace: str = Field(default="", description="the namespace of the runs; in multi-user mode only")
    kube_context: str = Field(default="", description="the context of the kubeconfig; empty: the current one")
    client_id: str = Field(default="", description="the OAuth client id of IAP")
    token_file: str = Field(default="", description="a file with a bearer token, which may be replaced during --wait")
    header_file: str = Field(
        default="",
        description="a file with headers for every request, such as the Cookie of a login, each as NAME: VALUE",
    )
    ca_file: str = Field(default="", description="the certificate authority of the host's certificate")
    ui: str = Field(default="", description="the address of its web pages, if it is not the host")

    def link_to(self, page: str) -> str:
        """The address of a page of Kubeflow Pipelines, such as runs/details/ID; empty if there is no host."""
        host = self.ui or self.host
        return f"{host.rstrip('/')}/#/{page}" if host else ""


def _check_secret(name: str) -> str:
    """The name, if Kubernetes allows it for a secret; the message leaves it out, as it may be the address itself."""
    if not _SUBDOMAIN.fullmatch(name) or len(name) > 253:
        raise ValueError(
            "is no name of a Kubernetes secret, which has small letters, digits, points and dashes; "
            "the address goes into that secret, as docs/gke.md says"
        )
    return name


class Notify(Strict):
    """Where the address of the webhook is that is told how each run on a cluster ended."""

    secret: Annotated[str, AfterValidator(_check_secret)]  # the Kubernetes secret, in the namespace of the runs
    key: Annotated[str, Field(pattern=r"^[-._a-zA-Z0-9]{1,253}$")] = "url"  # the key in it


class Config(Strict):
    """A file in pipelines/config."""

    name: str  # that of its file, without .yaml
    platform: Literal["kubernetes", "vertex"] = "kubernetes"  # what the packages are for; vertex: docs/vertex.md
    endpoint: Endpoint = Endpoint()
    pipeline_root: str = ""  # where a cluster keeps artifacts: gs://BUCKET/FOLDER
    service_account: str = ""  # the Kubernetes service account of the runs
    dvc_remote: str = ""  # where the cluster reads data versions; empty: DVC's default remote
    registry: str = ""  # where the stage images are, such as europe-west4-docker.pkg.dev/PROJECT/REPOSITORY
    tag: str = ""  # the tag of all images; empty: a hash of what each is made of
    model: str = ""  # the name of a module in models/; empty: the default of transform
    # What the images must look like, unless --schema names another: a path from the project's folder, or
    # gs://BUCKET/OBJECT; empty: it is inferred. The key is `schema`, which is a method of pydantic's models.
    schema_file: str = Field(default="", alias="schema")
    notify: Notify | None = None  # whom each run on a cluster tells how it ended; None: nobody
    # How many folds of the audit a cluster judges at once, each in a task of `judge`; None: audit judges them itself.
    parallel_folds: int | None = Field(default=None, gt=0, strict=True)
    defaults: StageConfig = StageConfig()  # for every stage
    stages: dict[str, StageConfig] = {}  # by stage, what differs from `defaults`

    @model_validator(mode="after")
    def _check_platform(self) -> Self:
        """Refuses for Vertex AI Pipelines what only Kubernetes understands, and what no machine there has."""
        if self.platform == "vertex":
            stages = {"defaults": self.defaults, **{f"stages.{name}": stage for name, stage in self.stages.items()}}
            given = [f"{place}.{field}" for place, stage in stages.items() for field in stage.model_fields_set]
            refused = [name for name in given if name.endswith(_FOR_KUBERNETES)]
            refused += ["notify"] if self.notify else []
            if refused:
                raise ValueError(
                    f"{min(refused)}: is for Kubernetes, and Vertex AI Pipelines does not take it; leave it out, or "
                    "leave out `platform: vertex`"
                )
            unfit = [f"{place}.{what}" for place, stage in stages.items() for what in _find_unfit_for_vertex(stage)]
            if unfit:
                raise ValueError(min(unfit))
            if self.pipeline_root and not is_address(self.pipeline_root):
                raise ValueError(
                    f"pipeline_root: is {quote(self.pipeline_root)}, but Vertex AI Pipelines keeps artifacts in Cloud "
                    "Storage alone; write gs://BUCKET/FOLDER"
                )
        return self

    @property
    def path(self) -> Path:
        """The file."""
        return CONFIGS / f"{self.name}.yaml"

    @property
    def schema_path(self) -> Path | None:
        """The schema if it is a file of this machine, which only submit.py can take along to a run; else None."""
        if not self.schema_file or is_address(self.schema_file):
            return None
        return CONFIGS.parents[1] / self.schema_file

    def disable_cache(self, stage: str = "") -> "Config":
        """The same, but with the cache switched off for a stage, or for all of them."""
        off = {"caching": False}
        stages = {name: self.get_stage(name).model_copy(update=off) for name in ([stage] if stage else self.stages)}
        defaults = self.defaults if stage else self.defaults.model_copy(update=off)
        return self.model_copy(update={"stages": {**self.stages, **stages}, "defaults": defaults})

    def get_stage(self, name: str) -> StageConfig:
        """The stage's own settings over the defaults."""
        own = self.stages.get(name, StageConfig())
        return self.defaults.model_copy(update={field: getattr(own, field) for field in own.model_fields_set})


def load_config(name: str) -> Config:
    """The configuration of that name, which may be given as that of its file, or as its path.

    Raises:
        UserError: there is none, or a field is unknown or has the wrong type.
    """
    path = CONFIGS / f"{name.removesuffix('.yaml')}.yaml"
    if Path(name).is_file() and Path(name).resolve().parent == CONFIGS.resolve():
        path = CONFIGS / Path(name).name
    if path.parent != CONFIGS or not path.is_file():
        if Path(name).is_file():
            own = Path(name).stem
            raise UserError(
                f"{name}: --config takes the name of a file in {CONFIGS}; copy this one there as {own}.yaml, and give "
                f"--config {own}."
            )
        names = sorted(file.stem for file in CONFIGS.glob("*.yaml"))
        raise UserError(f"{path}: no such configuration; there are {', '.join(names)}.")
    content = read_yaml(path)
    if content is None:
        content = {}  # nothing differs from the defaults
    if isinstance(content, dict):
        if "name" in content:
            raise UserError(f"{path}: name: a configuration has the name of its file; leave this out.")
        content = {**content, "name": path.stem}
    return validate(Config, content, path)


def check_names_are_filled_in(config: Config, registry: str | None = None) -> None:
    """Checks that a configuration names the places of a cluster, and not those of the template.

    Args:
        config: the configuration; the parameters of its stages may hold any text.
        registry: what is used in place of its own, if that is given.

    Raises:
        UserError: it still has placeholders.
    """
    own = config if registry is None else config.model_copy(update={"registry": registry})
    texts = own.model_dump_json(exclude={"name", "defaults", "stages"})
    if placeholders := dict.fromkeys(_PLACEHOLDER.findall(texts)):
        page = "docs/vertex.md" if config.platform == "vertex" else "docs/gke.md"
        raise UserError(
            f"{config.path}: still has {', '.join(placeholders)} in place of your names; put them there as {page} "
            "says, or to run on this machine, use submit.py --local."
        )


def validate(model: type[AnyModel], content: Any, path: Path) -> AnyModel:
    """The content of the file `path` as `model`.

    Raises:
        UserError: a field is wrong; the first such one is named.
    """
    try:
        return model.model_validate(content if content is not None else {})
    except ValidationError as error:
        raise UserError(f"{path}: {describe_validation(error, _PROBLEMS)}.") from None
