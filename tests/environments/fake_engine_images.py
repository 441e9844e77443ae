"""The fake engine's images, and what every call of it needs: the state, the forms of answers, what happened.

Methods named ``_on_…`` answer calls; ``ROUTES`` of the engine says which.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import tarfile
import time
from collections.abc import Callable
from typing import Any

from aiohttp import web

from tests.environments.fake_engine_things import (
    Container,
    Exec,
    Image,
    Network,
    Volume,
    matches,
    tagged,
    unpack,
)

HEADERS = {
    "Api-Version": "1.41",
    "Docker-Experimental": "false",
    "Ostype": "linux",
    "Server": "Docker/20.10.24 (linux)",
}
NETWORKS = {"bridge": "bridge", "host": "host", "none": "null"}


class Refusal(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class ImageCalls:
    """The state of the engine, and the calls about images."""

    def __init__(self) -> None:
        self.images: list[Image] = []
        self.containers: dict[str, Container] = {}
        self.volumes: dict[str, Volume] = {}
        self.networks: dict[str, Network] = {}
        for name, driver in NETWORKS.items():
            made = Network(name, driver)
            self.networks[made.id] = made
        self.execs: dict[str, Exec] = {}
        self.events: list[dict[str, Any]] = []
        self.registry: dict[str, Image] = {}
        """What can be pulled."""
        self.witness: Callable[[Container], None] = lambda container: None
        """Is called, in the engine's thread, right before a container comes into being."""

    def _said(self, what: object, status: int = 200) -> web.Response:
        if status in (204, 304):
            return web.Response(status=status, headers=HEADERS)
        return web.json_response(what, status=status, headers=HEADERS, dumps=lambda value: json.dumps(value) + "\n")

    def _lines_of(self, *lines: dict[str, Any]) -> web.Response:
        text = "".join(json.dumps(line) + "\r\n" for line in lines)
        answer = web.Response(text=text, content_type="application/json", headers=HEADERS)
        answer.enable_chunked_encoding()
        return answer

    def _happened(self, kind: str, action: str, who: str, **attributes: str) -> None:
        actor = {"ID": who, "Attributes": attributes}
        self.events.append({"Type": kind, "Action": action, "Actor": actor, "time": int(time.time())})

    def _image(self, name: str) -> Image:
        for image in self.images:
            if tagged(name) in image.tags or name == image.id or (len(name) >= 12 and image.id[7:].startswith(name)):
                return image
        raise Refusal(404, f"No such image: {tagged(name)}")

    def _tag(self, image: Image, name: str) -> None:
        for other in self.images:
            if name in other.tags:
                other.tags.remove(name)
        image.tags.append(name)
        if image not in self.images:
            self.images.append(image)

    async def _on_image_list(self, request: web.Request) -> web.Response:
        labels = filters(request).get("label", [])
        return self._said([image.listed() for image in self.images if matches(image.labels, labels)])

    async def _on_image_inspect(self, request: web.Request, name: str) -> web.Response:
        return self._said(self._image(name).told())

    async def _on_image_history(self, request: web.Request, name: str) -> web.Response:
        image = self._image(name)
        steps = [{"Id": "<missing>", "Size": image.size // len(image.layers), "CreatedBy": ""} for _ in image.layers]
        return self._said(steps)

    async def _on_image_create(self, request: web.Request) -> web.Response:
        asked = request.query
        if asked.get("fromSrc"):
            image = Image({"Labels": {}, "Env": []})
            with contextlib.suppress(tarfile.TarError):
                unpack(image.files, "/", await request.read())
            for change in asked.getall("changes", []):
                _apply(image.config, change)
            self._tag(image, tagged(f"{asked['repo']}:{asked['tag']}" if asked.get("tag") else asked["repo"]))
            return self._lines_of({"status": image.id})
        name = tagged(f"{asked['fromImage']}:{asked['tag']}" if asked.get("tag") else asked["fromImage"])
        if name not in self.registry:
            raise Refusal(
                500, f'Get "https://registry.invalid/v2/": dial tcp: lookup registry.invalid: no such host ({name})'
            )
        self._tag(self.registry[name], name)
        return self._lines_of(
            {"status": f"Pulling from {name}"}, {"status": f"Status: Downloaded newer image for {name}"}
        )

    async def _on_build(self, request: web.Request) -> web.Response:
        with tarfile.open(fileobj=io.BytesIO(await request.read())) as context:
            file = context.extractfile(request.query.get("dockerfile") or "Dockerfile")
            assert file is not None
            text = file.read().decode()
        steps = [line.strip() for line in text.replace("\\\n", " ").splitlines() if line.strip()]
        image = Image()
        said: list[dict[str, Any]] = []
        for number, step in enumerate(steps, 1):
            said.append({"stream": f"Step {number}/{len(steps)} : {step}"})
            word, _, rest = step.partition(" ")
            if word == "FROM":
                try:
                    image = self._image(rest).child()
                except Refusal as refusal:
                    return self._lines_of(
                        *said, {"error": refusal.message, "errorDetail": {"message": refusal.message}}
                    )
            else:
                _apply(image.config, step)
        image.config["Labels"] = {**image.labels, **json.loads(request.query.get("labels") or "{}")}
        self.images.append(image)
        said += [{"aux": {"ID": image.id}}, {"stream": f"Successfully built {image.id[7:19]}\n"}]
        for name in request.query.getall("t", []):
            self._tag(image, tagged(name))
        return self._lines_of(*said)

    async def _on_image_tag(self, request: web.Request, name: str) -> web.Response:
        asked = request.query
        self._tag(self._image(name), tagged(f"{asked['repo']}:{asked['tag']}" if asked.get("tag") else asked["repo"]))
        return self._said(None, 201)

    async def _on_image_remove(self, request: web.Request, name: str) -> web.Response:
        image = self._image(name)
        by_name, force = tagged(name) in image.tags, yes(request, "force")
        if by_name and len(image.tags) > 1:
            image.tags.remove(tagged(name))
            return self._said([{"Untagged": tagged(name)}])
        for container in self.containers.values():
            if container.image is image and not (force and by_name and not container.running):
                if by_name and not force:
                    message = (
                        f'conflict: unable to remove repository reference "{name}" (must force) - container '
                        f"{container.id[:12]} is using its referenced image {image.id[7:19]}"
                    )
                else:
                    message = f"conflict: unable to delete {image.id[7:19]} - image is being used by a container"
                raise Refusal(409, message)
        if not by_name and len(image.tags) > 1 and not force:
            raise Refusal(409, f"conflict: unable to delete {image.id[7:19]} (must be forced) - several references")
        gone = [{"Untagged": tag} for tag in image.tags]
        self.images.remove(image)
        image.tags.clear()
        return self._said([*gone, {"Deleted": image.id}])

    async def _on_commit(self, request: web.Request) -> web.Response:
        container, asked = self._container(request.query["container"]), request.query
        body = {key: value for key, value in container.body.items() if value and key not in ("HostConfig", "Image")}
        image = container.image.child(**{**body, "Labels": container.labels})
        image.files = dict(container.files)
        for change in asked.getall("changes", []):
            for line in change.splitlines():
                _apply(image.config, line)
        self.images.append(image)
        if asked.get("repo"):
            self._tag(image, tagged(f"{asked['repo']}:{asked['tag']}" if asked.get("tag") else asked["repo"]))
        return self._said({"Id": image.id}, 201)


def yes(request: web.Request, name: str) -> bool:
    return request.query.get(name, "").lower() in ("1", "true")


def filters(request: web.Request) -> dict[str, list[str]]:
    said = json.loads(request.query.get("filters") or "{}")
    return {key: [value] if isinstance(value, str) else list(value) for key, value in said.items()}


def volumes_of(container: Container) -> list[str]:
    return [mount["Name"] for mount in container.mounts if mount["Type"] == "volume"]


def _apply(config: dict[str, Any], line: str) -> None:
    """A line of a Dockerfile, as far as it is about the configuration."""
    word, _, rest = line.partition(" ")
    if word == "LABEL":
        pairs = re.findall(r'([^\s=]+)=("[^"]*"|\S*)', rest)
        config["Labels"] = {**(config.get("Labels") or {}), **{key: value.strip('"') for key, value in pairs}}
    elif word == "VOLUME":
        config["Volumes"] = {**(config.get("Volumes") or {}), rest.strip(): {}}
    elif word == "USER":
        config["User"] = rest.strip()
    elif word == "WORKDIR":
        config["WorkingDir"] = rest.strip()
    elif word == "ENV":
        config["Env"] = [*(config.get("Env") or []), rest.strip()]
    elif word in ("CMD", "ENTRYPOINT"):
        config[word.capitalize()] = json.loads(rest) if rest.startswith("[") else ["/bin/sh", "-c", rest]
