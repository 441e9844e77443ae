"""A small registry to pull from: read-only, on loopback, with images whose layers are made on the spot.

It speaks as much of the OCI distribution API as an engine needs for a pull, and misbehaves as it is told: quotas,
broken connections, refusals, slow blobs. Engines trust registries on 127.0.0.0/8 without TLS.
"""

from __future__ import annotations

import hashlib
import io
import json
import random
import tarfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG = "application/vnd.docker.container.image.v1+json"
LAYER = "application/vnd.docker.image.rootfs.diff.tar"


def digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def layer(seed: str, size: int) -> bytes:
    """A tar of one file of ``size`` bytes, the same for the same ``seed``."""
    spool = io.BytesIO()
    with tarfile.open(fileobj=spool, mode="w") as archive:
        entry = tarfile.TarInfo(f"layer-{seed}")
        entry.size = size
        archive.addfile(entry, io.BytesIO(random.Random(seed).randbytes(size)))
    return spool.getvalue()


@dataclass
class FakeRegistry:
    """Serves ``<address>/<repository>:<tag>``. What is asked is counted by repository."""

    address: str = ""
    manifests: dict[str, bytes] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    refuse_with_429: int = 0
    """So many requests for a manifest get 429 first."""
    break_off: int = 0
    """So many requests for a manifest end in the middle of the answer's head first."""
    unauthorised: bool = False
    bytes_per_second: float | None = None
    pulls: Counter[str] = field(default_factory=Counter)
    """Requests for manifests, refused ones included."""
    served: Counter[str] = field(default_factory=Counter)
    """Blobs, by digest."""
    most_at_once: int = 0
    """Repositories whose blobs were being served at the same time."""
    lock: threading.Lock = field(default_factory=threading.Lock)
    serving: Counter[str] = field(default_factory=Counter)

    def add(self, repository: str, *, layers: list[bytes] | None = None, tag: str = "1") -> str:
        """Offer an image; the name to pull it by. Without ``layers`` it has one of 1 kB of its own."""
        content = layers or [layer(f"{self.address}/{repository}", 1000)]
        config = json.dumps({
            "architecture": "amd64", "os": "linux", "config": {"Cmd": ["true"]},
            "rootfs": {"type": "layers", "diff_ids": [digest(each) for each in content]},
        }).encode()  # fmt: skip
        manifest = json.dumps({
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": {"mediaType": CONFIG, "size": len(config), "digest": digest(config)},
            "layers": [{"mediaType": LAYER, "size": len(each), "digest": digest(each)} for each in content],
        }).encode()  # fmt: skip
        self.blobs |= {digest(data): data for data in (config, *content)}
        self.manifests[f"{repository}:{tag}"] = self.manifests[f"{repository}:{digest(manifest)}"] = manifest
        return f"{self.address}/{repository}:{tag}"


@contextmanager
def fake_registry() -> Iterator[FakeRegistry]:
    """A registry on a free port of 127.0.0.1 while the block runs."""
    registry = FakeRegistry()

    class Handler(_Handler):
        offers = registry

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        registry.address = f"127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield registry
        finally:
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    offers: FakeRegistry

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/v2/":
            return (
                self._refuse(401, "UNAUTHORIZED")
                if self.offers.unauthorised
                else self._answer(b"{}", "application/json")
            )
        repository, kind, reference = path.removeprefix("/v2/").rsplit("/", 2)
        if kind == "manifests":
            return self._manifest(repository, reference)
        if reference not in self.offers.blobs:
            return self._refuse(404, "BLOB_UNKNOWN")
        with self.offers.lock:
            self.offers.served[reference] += 1
            self.offers.serving[repository] += 1
            self.offers.most_at_once = max(self.offers.most_at_once, len(+self.offers.serving))
        over = partial(self._over, repository)
        self._answer(self.offers.blobs[reference], "application/octet-stream", before_the_end=over)
        return None

    do_HEAD = do_GET

    def _over(self, repository: str) -> None:
        with self.offers.lock:
            self.offers.serving[repository] -= 1

    def _manifest(self, repository: str, reference: str) -> None:
        offers = self.offers
        with offers.lock:
            offers.pulls[repository] += self.command == "HEAD" or not reference.startswith("sha256:")
            quota, broken = offers.refuse_with_429 > 0, offers.break_off > 0
            offers.refuse_with_429 -= quota
            offers.break_off -= broken and not quota
        if quota:
            return self._refuse(429, "TOOMANYREQUESTS")
        if broken:
            self.close_connection = True
            self.connection.sendall(b"HTTP/1.1 200 O")
            return None
        if offers.unauthorised:
            return self._refuse(401, "UNAUTHORIZED")
        found = offers.manifests.get(f"{repository}:{reference}")
        if found is None:
            return self._refuse(404, "MANIFEST_UNKNOWN")
        return self._answer(found, MANIFEST)

    def _answer(
        self, body: bytes, kind: str, status: int = 200, before_the_end: Callable[[], None] | None = None
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Docker-Distribution-Api-Version", "registry/2.0")
        if status == 200:
            self.send_header("Docker-Content-Digest", digest(body))
        self.end_headers()
        if self.command == "HEAD":
            if before_the_end is not None:
                before_the_end()
            return
        speed = None if before_the_end is None else self.offers.bytes_per_second
        step = len(body) or 1 if speed is None else max(1, int(speed / 10))
        last = (len(body) - 1) // step * step
        try:
            for start in range(0, last, step):
                self.wfile.write(body[start : start + step])
                time.sleep(0.1)
        except OSError:  # the engine called the pull off
            self.close_connection = True
        if before_the_end is not None:  # once the last byte is out, the next pull may begin
            before_the_end()
        with suppress(OSError):
            self.wfile.write(body[last:])

    def _refuse(self, status: int, code: str) -> None:
        said = json.dumps({"errors": [{"code": code, "message": code.lower()}]})
        self._answer(said.encode(), "application/json", status=status)

    def log_message(self, format: str, *args: object) -> None:
        pass
