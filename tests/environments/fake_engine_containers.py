"""The fake engine's containers, the commands in them, their volumes and their networks."""

from __future__ import annotations

import asyncio
import base64
import json
import re

from aiohttp import web

from tests.environments.fake_engine_images import HEADERS, NETWORKS, ImageCalls, Refusal, filters, volumes_of, yes
from tests.environments.fake_engine_things import (
    KILLED,
    Container,
    Exec,
    Network,
    Volume,
    fresh_id,
    matches,
    packed,
    tagged,
    unpack,
)


class ContainerCalls(ImageCalls):
    async def _pause_for(self, kind: str) -> None:
        """A test may have made this slow."""

    def _container(self, name: str) -> Container:
        for each in self.containers.values():
            if name in (each.id, each.name) or (len(name) >= 12 and each.id.startswith(name)):
                return each
        raise Refusal(404, f"No such container: {name}")

    async def _on_container_create(self, request: web.Request) -> web.Response:
        body = await request.json()
        name = request.query.get("name") or f"fake_{fresh_id()[:12]}"
        try:
            image = self._image(body["Image"])
        except Refusal:
            raise Refusal(404, f"No such image: {tagged(body['Image'])}") from None
        if not (body.get("Cmd") or body.get("Entrypoint") or image.config.get("Cmd") or image.config.get("Entrypoint")):
            raise Refusal(400, "No command specified")
        other = next((each for each in self.containers.values() if each.name == name), None)
        if other is not None:
            raise Refusal(
                409,
                f'Conflict. The container name "/{name}" is already in use by container "{other.id}". '
                "You have to remove (or rename) that container to be able to reuse that name.",
            )
        container = Container(name, image, body, [])
        if container.host.get("StorageOpt"):
            raise Refusal(
                500, "--storage-opt is supported only for overlay over xfs with 'pquota' mount option",
            )  # fmt: skip
        self.witness(container)
        for source, target in [each.split(":")[:2] for each in container.host.get("Binds") or []]:
            if not source.startswith("/"):
                self.volumes.setdefault(source, Volume(source))
            kind = "bind" if source.startswith("/") else "volume"
            container.mounts.append({"Type": kind, "Name": source, "Source": source, "Destination": target, "RW": True})
        for target in {**(image.config.get("Volumes") or {}), **(body.get("Volumes") or {})}:
            volume = Volume(fresh_id())
            self.volumes[volume.name] = volume
            told = volume.told()
            container.mounts.append(
                {"Type": "volume", "Name": volume.name, "Source": told["Mountpoint"], "Destination": target, "RW": True}
            )
        self.containers[container.id] = container
        self._happened("container", "create", container.id, name=name, **container.labels)
        return self._said({"Id": container.id, "Warnings": []}, 201)

    async def _on_container_list(self, request: web.Request) -> web.Response:
        every, wanted, found = yes(request, "all"), filters(request), []
        for each in reversed(self.containers.values()):
            volumes = {*volumes_of(each), *(mount["Destination"] for mount in each.mounts)}
            if (
                (every or each.running)
                and matches(each.labels, wanted.get("label", []))
                and ("volume" not in wanted or volumes & set(wanted["volume"]))
                and ("network" not in wanted or {each.network, self._network_id(each)} & set(wanted["network"]))
                and ("id" not in wanted or any(each.id.startswith(start) for start in wanted["id"]))
                and ("name" not in wanted or any(re.search(name, f"/{each.name}") for name in wanted["name"]))
                and ("status" not in wanted or each.state in wanted["status"])
            ):
                found.append(each.listed(yes(request, "size"), self._network_id(each) if each.running else ""))
        return self._said(found)

    async def _on_container_inspect(self, request: web.Request, name: str) -> web.Response:
        container = self._container(name)
        size = {"SizeRw": len(container.files) - container.grown, "SizeRootFs": container.image.size}
        return self._said({**container.told(), **(size if yes(request, "size") else {})})

    async def _on_container_start(self, request: web.Request, name: str) -> web.Response:
        container = self._container(name)
        if container.running:
            return self._said(None, 304)
        if container.network not in {known for each in self.networks.values() for known in (each.name, each.id)}:
            raise Refusal(404, f"network {container.network} not found")
        container.state, container.ended = "running", asyncio.Event()
        bindings = container.host.get("PortBindings") or {}
        for number, port in enumerate(bindings):
            container.ports[port] = [{"HostIp": "127.0.0.1", "HostPort": str(49153 + number)}]
        self._happened("container", "start", container.id, name=container.name, **container.labels)
        return self._said(None, 204)

    async def _on_container_kill(self, request: web.Request, name: str) -> web.Response:
        container = self._container(name)
        if not container.running:
            raise Refusal(409, f"Cannot kill container: {name}: Container {container.id} is not running")
        self._end(container)
        return self._said(None, 204)

    def _end(self, container: Container) -> None:
        if container.running:
            container.end(KILLED)
            code = str(container.exit_code)
            self._happened("container", "die", container.id, name=container.name, exitCode=code, **container.labels)

    async def _on_container_remove(self, request: web.Request, name: str) -> web.Response:
        container = self._container(name)
        if container.removing:
            raise Refusal(409, f"removal of container {name} is already in progress")
        if container.running and not yes(request, "force"):
            raise Refusal(
                409,
                f"You cannot remove a running container {container.id}. "
                "Stop the container before attempting removal or force remove",
            )
        self._end(container)
        container.removing = True
        try:
            await self._pause_for("removal")
        finally:
            container.removing = False
        self.containers.pop(container.id, None)
        for each in [key for key, run in self.execs.items() if run.container is container]:
            del self.execs[each]
        if yes(request, "v"):
            used = {volume for other in self.containers.values() for volume in volumes_of(other)}
            for volume in volumes_of(container):
                if volume not in used and re.fullmatch("[0-9a-f]{64}", volume):
                    self.volumes.pop(volume, None)
        self._happened("container", "destroy", container.id, name=container.name, **container.labels)
        return self._said(None, 204)

    async def _on_container_top(self, request: web.Request, name: str) -> web.Response:
        container = self._container(name)
        if not container.running:
            raise Refusal(409, f"Container {container.id} is not running")
        line = " ".join([*(container.body.get("Entrypoint") or []), *(container.body.get("Cmd") or [])])
        under_way = [run for run in self.execs.values() if run.container is container and run.running]
        rows = [["1", f"/sbin/docker-init -- {line}"], ["2", line], *(["3", run.body["Cmd"][-1]] for run in under_way)]
        return self._said({"Titles": ["PID", "COMMAND"], "Processes": rows})

    async def _on_archive(self, request: web.Request, name: str) -> web.Response:
        container, path = self._container(name), "/" + request.query["path"].strip("/")
        if path not in container.files:
            raise Refusal(404, f"Could not find the file {path} in container {name}")
        if request.method == "PUT":
            unpack(container.files, path, await request.read())
            return self._said(None, 200)
        content = container.files[path]
        told = {
            "name": path.rpartition("/")[2],
            "size": len(content) if content is not None else 4096,
            "mode": 0o644 if content is not None else 0o20000000755,
            "mtime": "2026-01-01T00:00:00Z",
            "linkTarget": "",
        }
        headers = {**HEADERS, "X-Docker-Container-Path-Stat": base64.b64encode(json.dumps(told).encode()).decode()}
        body = b"" if request.method == "HEAD" else packed(container.files, path)
        return web.Response(body=body, headers={**headers, "Content-Type": "application/x-tar"})

    # ------------------------------------------------------------------ commands

    async def _on_exec_create(self, request: web.Request, name: str) -> web.Response:
        container, body = self._container(name), await request.json()
        if not container.running:
            raise Refusal(409, f"Container {container.id} is not running")
        made = Exec(container, body)
        self.execs[made.id] = made
        return self._said({"Id": made.id}, 201)

    def _exec(self, exec_id: str) -> Exec:
        if exec_id not in self.execs:
            raise Refusal(404, f"No such exec instance: {exec_id}")
        return self.execs[exec_id]

    async def _on_exec_start(self, request: web.Request, exec_id: str) -> web.Response:
        """The engine takes the connection over: frames follow the head, and its end is theirs."""
        run, transport = self._exec(exec_id), request.transport
        await request.read()
        if not run.container.running:
            raise Refusal(409, f"Container {run.container.id} is not running")
        assert transport is not None

        def write(data: bytes, stream: int) -> None:
            transport.write(bytes([stream, 0, 0, 0]) + len(data).to_bytes(4, "big") + data)

        transport.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\n")
        run.running = True
        try:
            run.exit_code = await run.run(write)
        finally:
            run.running = False
            transport.close()
        return web.Response()

    async def _on_exec_inspect(self, request: web.Request, exec_id: str) -> web.Response:
        return self._said(self._exec(exec_id).told())

    # ------------------------------------------------------------------ volumes and networks

    async def _on_volume_list(self, request: web.Request) -> web.Response:
        labels = filters(request).get("label", [])
        found = [each.told() for each in self.volumes.values() if matches(each.labels or {}, labels)]
        return self._said({"Volumes": found, "Warnings": None})

    async def _on_volume_create(self, request: web.Request) -> web.Response:
        body = await request.json()
        name = body.get("Name") or fresh_id()
        return self._said(self.volumes.setdefault(name, Volume(name, body.get("Labels"))).told(), 201)

    async def _on_volume_inspect(self, request: web.Request, name: str) -> web.Response:
        if name not in self.volumes:
            raise Refusal(404, f"get {name}: no such volume")
        return self._said(self.volumes[name].told())

    async def _on_volume_remove(self, request: web.Request, name: str) -> web.Response:
        if name not in self.volumes:
            raise Refusal(404, f"get {name}: no such volume")
        users = [each.id for each in self.containers.values() if name in volumes_of(each)]
        if users:
            raise Refusal(409, f"remove {name}: volume is in use - [{', '.join(users)}]")
        del self.volumes[name]
        return self._said(None, 204)

    def _network(self, name: str) -> Network:
        for each in self.networks.values():
            if name in (each.id, each.name):
                return each
        raise Refusal(404, f"network {name} not found")

    def _network_id(self, container: Container) -> str:
        return next((each.id for each in self.networks.values() if container.network in (each.name, each.id)), "")

    def _connected(self, network: Network) -> dict[str, str]:
        running = [each for each in self.containers.values() if each.running]
        return {each.id: each.name for each in running if each.network in (network.name, network.id)}

    async def _on_network_list(self, request: web.Request) -> web.Response:
        wanted = filters(request)
        found = [
            each.told({})
            for each in self.networks.values()
            if matches(each.labels, wanted.get("label", []))
            and ("name" not in wanted or any(name in each.name for name in wanted["name"]))
        ]
        return self._said(found)

    async def _on_network_create(self, request: web.Request) -> web.Response:
        body = await request.json()
        if body.get("CheckDuplicate") and any(each.name == body["Name"] for each in self.networks.values()):
            raise Refusal(409, f"network with name {body['Name']} already exists")
        made = Network(body["Name"], body.get("Driver") or "bridge", body.get("Labels") or {})
        self.networks[made.id] = made
        return self._said({"Id": made.id, "Warning": ""}, 201)

    async def _on_network_inspect(self, request: web.Request, name: str) -> web.Response:
        network = self._network(name)
        return self._said(network.told(self._connected(network)))

    async def _on_network_remove(self, request: web.Request, name: str) -> web.Response:
        network = self._network(name)
        if network.name in NETWORKS:
            raise Refusal(403, f"{network.name} is a pre-defined network and cannot be removed")
        if self._connected(network):
            raise Refusal(
                403, f"error while removing network: network {network.name} id {network.id} has active endpoints"
            )
        del self.networks[network.id]
        return self._said(None, 204)
