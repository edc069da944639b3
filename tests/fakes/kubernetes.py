"""A stand-in for the API server of Kubernetes: it shows and deletes what lies in its namespaces, for those who may.

It has as much as submit.py and kubectl ask for, and refuses in Kubernetes' own words, with what GKE adds to them.
"""

import datetime
import json
import re
import uuid
from typing import Any, NamedTuple

Json = dict[str, Any]

NAMESPACE = "kubeflow"  # of Kubeflow Pipelines
ADMIN = "the-token-of-the-administrator"
ANONYMOUS = "system:anonymous"
EVERY = "*"  # namespace, or resource


class Resource(NamedTuple):
    """A kind of objects."""

    version: str  # with its group, if it is none of Kubernetes' own
    plural: str
    kind: str
    is_namespaced: bool = True

    @property
    def group(self) -> str:
        return self.version.rpartition("/")[0]

    @property
    def full_name(self) -> str:
        return f"{self.plural}.{self.group}" if self.group else self.plural


RESOURCES = [
    Resource("v1", "configmaps", "ConfigMap"),
    Resource("v1", "events", "Event"),
    Resource("v1", "nodes", "Node", is_namespaced=False),
    Resource("v1", "pods", "Pod"),
    Resource("v1", "services", "Service"),
    Resource("argoproj.io/v1alpha1", "workflows", "Workflow"),
    Resource("kubeflow.org/v1beta1", "scheduledworkflows", "ScheduledWorkflow"),
]
KINDS = {resource.kind: resource for resource in RESOURCES}
VERSIONS = dict.fromkeys(resource.version for resource in RESOURCES)
PATH = re.compile(
    r"/(?:api|apis)/(?P<version>v1|[\w.]+/\w+)(?:/namespaces/(?P<namespace>[^/]+))?"
    r"/(?P<plural>[^/]+)(?:/(?P<name>[^/]+)(?P<proxy>/proxy\b)?.*)?"
)


class Refused(Exception):
    """What Kubernetes says instead of an answer."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message)
        status = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"}
        self.code, self.status = code, {**status, "message": message, "reason": reason, "code": code}


class Kubernetes:
    """The server and all it knows; a test may read and change any of it."""

    def __init__(self) -> None:
        self.objects: list[Json] = []
        self.users = {ADMIN: "admin"}  # by their tokens
        # The resources on which a user may do all, by namespace; "" is for what lies in none.
        self.rights: dict[str, dict[str, set[str]]] = {"admin": {EVERY: {EVERY}}}
        self.requests: list[str] = []  # the paths that it answered itself, refusals too; not what it passed on

    def put(self, kind: str, name: str, *, namespace: str = NAMESPACE, **fields: Any) -> Json:
        """Takes in an object, in place of one of that name; `labels` and `annotations` are of its metadata."""
        resource = KINDS[kind]
        metadata: Json = {"name": name, "uid": str(uuid.uuid4())}
        metadata["creationTimestamp"] = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        metadata |= {"namespace": namespace} if resource.is_namespaced else {}
        metadata |= {key: fields.pop(key) for key in ("labels", "annotations") if key in fields}
        self.objects = [each for each in self.objects if _key(each) != (kind, metadata.get("namespace"), name)]
        self.objects.append({"kind": kind, "apiVersion": resource.version, "metadata": metadata, **fields})
        return self.objects[-1]

    def list(self, kind: str, namespace: str | None = None, *, labels: str = "", fields: str = "") -> list[Json]:
        """The objects of a kind in a namespace, or in all, that the selectors choose."""
        return [
            each
            for each in self.objects
            if each["kind"] == kind
            and namespace in (None, each["metadata"].get("namespace"))
            and _matches(labels, lambda key, each=each: each["metadata"].get("labels", {}).get(key))
            and _matches(fields, lambda key, each=each: _find(each, key))
        ]

    def get(self, kind: str, name: str, namespace: str = NAMESPACE) -> Json:
        """The object of that name."""
        resource = KINDS[kind]
        for each in self.list(kind, namespace if resource.is_namespaced else None):
            if each["metadata"]["name"] == name:
                return each
        raise Refused(404, "NotFound", f'{resource.full_name} "{name}" not found')

    def delete(self, *objects: Json) -> None:
        """Removes objects."""
        self.objects = [each for each in self.objects if not any(each is gone for gone in objects)]

    def answer(self, method: str, path: str, query: dict[str, str], authorization: str | None) -> tuple[int, bytes]:
        """What Kubernetes says to a request."""
        self.requests.append(path)
        try:
            user = self._identify(authorization)
            found = self._discover(path) or self._do(method, path, query, user)
        except Refused as refused:
            return refused.code, json.dumps(refused.status).encode()
        return (200, json.dumps(found).encode()) if found else (404, b"404 page not found\n")

    def check_proxy(self, method: str, path: str, authorization: str | None) -> tuple[int, bytes] | None:
        """What it says instead of passing a request on to a service; None if that goes there."""
        try:
            match = PATH.fullmatch(path)
            assert match
            self._authorize(self._identify(authorization), method, match)
        except Refused as refused:
            self.requests.append(path)
            return refused.code, json.dumps(refused.status).encode()
        return None

    def _identify(self, authorization: str | None) -> str:
        if not authorization:
            return ANONYMOUS
        user = self.users.get(authorization.removeprefix("Bearer "))
        if not user:
            raise Refused(401, "Unauthorized", "Unauthorized")
        return user

    def _authorize(self, user: str, method: str, match: re.Match[str]) -> None:
        namespace, name = match["namespace"] or "", match["name"]
        resource = next(each for each in RESOURCES if each.plural == match["plural"])
        right = f"{resource.plural}/proxy" if match["proxy"] else resource.plural
        verb = {"GET": "get" if name else "list", "POST": "create"}.get(method, "delete")
        granted = self.rights.get(user, {})
        if {right, EVERY} & (granted.get(EVERY, set()) | granted.get(namespace, set())):
            return
        what = f'{resource.full_name} "{name}"' if name else resource.full_name
        place = f'in the namespace "{namespace}"' if namespace else "at the cluster scope"
        permission = f"container.{right.replace('/', '.')}{'' if match['proxy'] else f'.{verb}'}"
        if resource.group:
            permission = f"container.thirdPartyObjects.{verb}"
        raise Refused(
            403,
            "Forbidden",
            f'{what} is forbidden: User "{user}" cannot {verb} resource "{right}" in API group "{resource.group}" '
            f'{place}: requires one of ["{permission}"] permission(s).',
        )

    def _do(self, method: str, path: str, query: dict[str, str], user: str) -> Json | None:
        match = PATH.fullmatch(path)
        known = match and [
            each for each in RESOURCES if (each.version, each.plural) == match.group("version", "plural")
        ]
        if not match or not known:
            return None
        resource, namespace = known[0], match["namespace"]
        self._authorize(user, method, match)
        if match["name"]:
            found = self.get(resource.kind, match["name"].partition(":")[0], namespace)
            if method == "DELETE":
                self.delete(found)
                return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}
            return found
        selectors = {"labels": query.get("labelSelector", ""), "fields": query.get("fieldSelector", "")}
        items = self.list(resource.kind, namespace, **selectors)
        listed = {"kind": f"{resource.kind}List", "apiVersion": resource.version}
        return {**listed, "metadata": {"resourceVersion": "1"}, "items": items}

    def _discover(self, path: str) -> Json | None:
        """What kubectl asks first: which resources there are."""
        if path == "/api":
            return {"kind": "APIVersions", "versions": ["v1"]}
        if path == "/apis":
            groups = []
            for version in VERSIONS:
                group, _, number = version.rpartition("/")
                served = {"groupVersion": version, "version": number}
                groups += [{"name": group, "versions": [served], "preferredVersion": served}] if group else []
            return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}
        version = path.removeprefix("/api/").removeprefix("/apis/")
        if version not in VERSIONS:
            return None
        resources = [
            {
                "name": each.plural,
                "singularName": each.kind.lower(),
                "kind": each.kind,
                "namespaced": each.is_namespaced,
            }
            | {"verbs": ["get", "list", "delete"]}
            for each in RESOURCES
            if each.version == version
        ]
        return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": resources}


def _key(each: Json) -> tuple[str, str | None, str]:
    metadata = each["metadata"]
    return each["kind"], metadata.get("namespace"), metadata["name"]


def _matches(selector: str, read: Any) -> bool:
    """Whether an object has what a selector such as `a=b,c=d` names."""
    wanted = [term.replace("==", "=").partition("=") for term in selector.split(",") if term]
    return all(read(key) == value for key, _, value in wanted)


def _find(each: Json, path: str) -> Any:
    for key in path.split("."):
        each = each.get(key, {})
    return each
