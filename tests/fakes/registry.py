"""A registry of images: what answers for it says which there are, as the registry API has it, and nothing more."""

import threading
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MANIFEST = "application/vnd.oci.image.manifest.v1+json"


class Registry:
    """It has every image, but for the `missing` ones: NAME:TAG, or NAME for all its tags."""

    def __init__(self) -> None:
        self.missing: set[str] = set()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._http.registry = self  # type: ignore[attr-defined]
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self._http.server_port}"

    def has(self, path: str) -> bool:
        """Whether there is a manifest at /v2/NAME/manifests/TAG."""
        name, _, tag = path.removeprefix("/v2/").partition("/manifests/")
        return not self.missing & {name, f"{name}:{tag}"}

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()


@cache
def open_registry() -> Registry:
    """One that has every image, as long as the tests run."""
    return Registry()


class _Handler(BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        registry: Registry = self.server.registry  # type: ignore[attr-defined]
        there = registry.has(self.path)
        self.send_response(200 if there else 404)
        self.send_header("Content-Type", MANIFEST if there else "application/json")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass
