"""The fake engine says what the real one says: one scripted talk, held with either, and compared with what is written
here. What only our code's way of reading sees (status codes, a few fields) is compared, nothing more.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import docker
import pytest

from tests.environments.fake_engine import FakeEngine
from thunderctl.environments.engine import EngineConnection
from thunderctl.environments.images import BASE
from thunderctl.environments.output import HeadTail


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.docker)])
def engine(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    if request.param == "real":
        yield os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"
        return
    fake = FakeEngine(tmp_path)
    fake.add_image(BASE)
    fake.start()
    monkeypatch.setenv("DOCKER_HOST", f"unix://{fake.socket}")
    yield f"unix://{fake.socket}"
    fake.close()


class Talk:
    """Calls with bare HTTP, so that nobody's client smooths anything out."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def __call__(self, method: str, path: str, body: object = None, /, **query: str) -> tuple[int, Any]:
        async with self._session.request(method, f"http://engine/v1.41{path}", json=body, params=query) as answer:
            text = await answer.text()
            if answer.content_type == "application/json" and text:
                said = [json.loads(line) for line in text.splitlines() if line.strip()]
                return answer.status, said[0] if len(said) == 1 else said
            return answer.status, text


@pytest.fixture
async def talk(engine: str) -> Any:
    connector = aiohttp.UnixConnector(path=engine.removeprefix("unix://"))
    async with aiohttp.ClientSession(connector=connector) as session:
        yield Talk(session)


@pytest.fixture
def own(engine: str) -> Iterator[str]:
    """A name that marks whatever the test makes; all of it goes."""
    name = f"thunderctl-test-{uuid.uuid4().hex[:8]}"
    yield name
    client = docker.DockerClient(base_url=engine)
    marked = {"label": f"conformance={name}"}
    for container in client.containers.list(all=True, filters=marked):
        container.remove(force=True, v=True)
    for volume in client.volumes.list(filters=marked):
        volume.remove()
    for network in client.networks.list(filters=marked):
        network.remove()
    with contextlib.suppress(docker.errors.ImageNotFound):
        client.images.remove(f"{name}:1", force=True)
    client.close()


def body(own: str, **more: Any) -> dict[str, Any]:
    return {"Image": BASE, "Entrypoint": ["sleep"], "Cmd": ["infinity"], "Labels": {"conformance": own}, **more}


HOST = {"Init": True, "NetworkMode": "none"}


async def test_it_presents_itself_as_the_engine_that_we_know(talk: Talk) -> None:
    assert await talk("GET", "/_ping") == (200, "OK")
    status, told = await talk("GET", "/version")
    assert (status, told["ApiVersion"], told["MinAPIVersion"]) == (200, "1.41", "1.12")
    status, told = await talk("GET", "/info")
    assert status == 200
    assert {"DockerRootDir", "Driver", "NCPU", "MemTotal"} <= told.keys()


async def test_what_is_not_there_is_404(talk: Talk) -> None:
    for method, path in (
        ("GET", "/containers/nobody/json"),
        ("DELETE", "/containers/nobody"),
        ("POST", "/containers/nobody/start"),
        ("GET", "/images/no/such:1/json"),
        ("DELETE", "/images/no/such:1"),
        ("GET", "/volumes/nothing-of-the-sort"),
        ("DELETE", "/volumes/nothing-of-the-sort"),
        ("GET", "/networks/nothing-of-the-sort"),
        ("GET", "/exec/nothing/json"),
        ("GET", "/no/such/page"),
    ):
        status, told = await talk(method, path)
        assert (path, status) == (path, 404)
        assert told["message"]
    assert (await talk("POST", "/containers/create", {"Image": "no/such:1", "Cmd": ["x"]}))[0] == 404
    assert (await talk("POST", "/containers/create", {"Image": BASE}))[0] == 400


async def test_the_life_of_a_container(talk: Talk, own: str) -> None:
    status, made = await talk("POST", "/containers/create", body(own, HostConfig=HOST), name=own)
    assert status == 201
    container = made["Id"]
    status, told = await talk("POST", "/containers/create", body(own), name=own)
    assert status == 409
    assert f'name "/{own}" is already in use' in told["message"]
    _, told = await talk("GET", f"/containers/{own}/json")
    assert (told["Id"], told["Name"], told["State"]["Status"]) == (container, f"/{own}", "created")
    assert told["Config"]["Labels"]["conformance"] == own
    assert told["Mounts"] == []
    assert (await talk("POST", f"/containers/{container}/exec", {"Cmd": ["true"]}))[0] == 409
    assert (await talk("POST", f"/containers/{container}/start"))[0] == 204
    assert (await talk("POST", f"/containers/{container}/start"))[0] == 304
    _, told = await talk("GET", f"/containers/{container}/json", size="1")
    assert told["State"]["Running"] is True
    assert {"SizeRw", "GraphDriver"} <= told.keys()
    wanted = json.dumps({"label": [f"conformance={own}"]})
    _, found = await talk("GET", "/containers/json", filters=wanted)
    assert (found["Id"] if isinstance(found, dict) else found[0]["Id"]) == container
    _, (listed,) = await talk("GET", "/containers/json", all="1", size="1", filters=wanted)
    assert (listed["Names"], listed["State"], listed["Image"]) == ([f"/{own}"], "running", BASE)
    assert listed["HostConfig"]["NetworkMode"] == "none"
    _, told = await talk("GET", f"/containers/{container}/top", ps_args="-eo pid,args")
    assert [row[-1] for row in told["Processes"]] == ["/sbin/docker-init -- sleep infinity", "sleep infinity"]
    status, told = await talk("DELETE", f"/containers/{container}")
    assert status == 409
    assert told["message"].startswith("You cannot remove a running container")
    assert (await talk("POST", f"/containers/{container}/kill"))[0] == 204
    assert (await talk("POST", f"/containers/{container}/kill"))[0] == 409
    status, told = await talk("POST", f"/containers/{container}/exec", {"Cmd": ["true"]})
    assert (status, told["message"]) == (409, f"Container {container} is not running")
    _, told = await talk("GET", f"/containers/{container}/json")
    assert (told["State"]["Status"], told["State"]["ExitCode"], told["State"]["Running"]) == ("exited", 137, False)
    assert (await talk("DELETE", f"/containers/{container}", force="1", v="1"))[0] == 204
    assert (await talk("DELETE", f"/containers/{container}", force="1"))[0] == 404


async def test_commands_and_files(talk: Talk, own: str) -> None:
    _, made = await talk("POST", "/containers/create", body(own, HostConfig=HOST), name=own)
    await talk("POST", f"/containers/{own}/start")
    connection = EngineConnection()
    for script, output, code in (("echo one two", "one two\n", 0), ("exit 3", "", 3), ("nonsense", "not found", 127)):
        exec_id = await connection.create(made["Id"], ("/bin/sh", "-c", script), {}, "/", "0:0")
        kept = HeadTail(1000)
        _, told = await talk("GET", f"/exec/{exec_id}/json")
        assert (told["Running"], told["ExitCode"]) == (False, None)
        await connection.stream(exec_id, kept)
        assert output in kept.text()[0]
        assert await connection.exit_code(exec_id) == code
    assert await connection.exists(own, "/etc/hostname")
    assert not await connection.exists(own, "/no/such/thing")
    await connection.close()
    status, told = await talk("GET", f"/containers/{own}/archive", path="/no/such/thing")
    assert status == 404
    assert told["message"].startswith("Could not find the file /no/such/thing in container")
    client = docker.from_env()
    with contextlib.closing(client):
        chunks, told = client.api.get_archive(own, "/etc/hostname")
        assert told["name"] == "hostname"
        assert told["size"] > 0
        assert b"hostname" in b"".join(chunks)
        with pytest.raises(docker.errors.NotFound):
            client.api.put_archive(own, "/no/such/thing", b"\0" * 1024)


async def test_images_in_use_stay_and_volumes_come_with_containers(talk: Talk, own: str, engine: str) -> None:
    with contextlib.closing(docker.from_env()) as client:
        lines = list(
            client.api.build(
                fileobj=io.BytesIO(f"FROM {BASE}\nVOLUME /data\nUSER 7:7\n".encode()),
                tag=f"{own}:1", rm=True, decode=True, labels={"made": "here"},
            )
        )  # fmt: skip
    assert lines[0]["stream"].startswith("Step 1/")
    assert any("aux" in line for line in lines)
    _, image = await talk("GET", f"/images/{own}:1/json")
    assert image["RepoTags"] == [f"{own}:1"]
    assert image["Config"]["Labels"]["made"] == "here"
    assert image["Config"]["User"] == "7:7"
    assert len(image["RootFS"]["Layers"]) >= 1
    status, history = await talk("GET", f"/images/{own}:1/history")
    assert status == 200
    assert all({"Size", "CreatedBy"} <= step.keys() for step in history)
    _, made = await talk("POST", "/containers/create", body(own, Image=f"{own}:1"), name=own)
    _, told = await talk("GET", f"/containers/{own}/json")
    (mount,) = told["Mounts"]
    assert (mount["Type"], mount["Destination"], len(mount["Name"])) == ("volume", "/data", 64)
    assert (told["Image"], told["Config"]["User"]) == (image["Id"], "7:7")
    status, said = await talk("DELETE", f"/volumes/{mount['Name']}")
    assert status == 409
    assert "volume is in use" in said["message"]
    _, found = await talk("GET", "/containers/json", all="1", filters=json.dumps({"volume": [mount["Name"]]}))
    assert (found if isinstance(found, dict) else found[0])["Id"] == made["Id"]
    status, said = await talk("DELETE", f"/images/{own}:1")
    assert status == 409
    assert said["message"].startswith(f'conflict: unable to remove repository reference "{own}:1" (must force)')
    assert (await talk("POST", f"/images/{own}:1/tag", repo=own, tag="2"))[0] == 201
    status, said = await talk("DELETE", f"/images/{own}:2")
    assert (status, said[0] if isinstance(said, list) else said) == (200, {"Untagged": f"{own}:2"})
    assert (await talk("DELETE", f"/containers/{own}", v="1"))[0] == 204
    assert (await talk("GET", f"/volumes/{mount['Name']}"))[0] == 404
    assert (await talk("DELETE", f"/images/{own}:1"))[0] == 200


async def test_a_container_becomes_an_image(talk: Talk, own: str) -> None:
    await talk("POST", "/containers/create", body(own, User="5:5"), name=own)
    query = {"container": own, "repo": own, "tag": "1", "changes": 'LABEL lease=""\nUSER 0:0\nENTRYPOINT [""]\nCMD []'}
    status, made = await talk("POST", "/commit", {}, **query)
    assert status == 201
    _, image = await talk("GET", f"/images/{own}:1/json")
    assert image["Id"] == made["Id"]
    assert (image["Config"]["User"], image["Config"]["Entrypoint"]) == ("0:0", [""])
    assert image["Config"]["Labels"]["conformance"] == own
    assert image["Config"]["Labels"]["lease"] == ""


async def test_volumes_and_networks(talk: Talk, own: str) -> None:
    labels = {"conformance": own}
    status, volume = await talk("POST", "/volumes/create", {"Name": own, "Labels": labels})
    assert (status, volume["Name"], volume["Labels"]) == (201, own, labels)
    assert (await talk("POST", "/volumes/create", {"Name": own}))[0] == 201
    _, told = await talk("GET", "/volumes", filters=json.dumps({"label": [f"conformance={own}"]}))
    assert [each["Name"] for each in told["Volumes"]] == [own]
    asked = {"Name": own, "Driver": "bridge", "Labels": labels, "CheckDuplicate": True}
    status, network = await talk("POST", "/networks/create", asked)
    assert status == 201
    assert (await talk("POST", "/networks/create", asked))[0] == 409
    _, told = await talk("GET", f"/networks/{network['Id']}")
    assert (told["Name"], told["Labels"], told["Containers"]) == (own, labels, {})
    host = {"NetworkMode": own, "Binds": [f"{own}:/data"]}
    _, made = await talk("POST", "/containers/create", body(own, HostConfig=host), name=own)
    assert (await talk("DELETE", f"/volumes/{own}"))[0] == 409
    assert (await talk("POST", f"/containers/{own}/start"))[0] == 204
    _, told = await talk("GET", f"/networks/{own}")
    assert list(told["Containers"]) == [made["Id"]]
    assert (await talk("DELETE", f"/networks/{own}"))[0] == 403
    assert (await talk("DELETE", "/networks/none"))[0] == 403
    assert (await talk("DELETE", f"/containers/{own}", force="1", v="1"))[0] == 204
    assert (await talk("GET", f"/volumes/{own}"))[0] == 200
    assert (await talk("DELETE", f"/networks/{own}"))[0] == 204
    assert (await talk("DELETE", f"/volumes/{own}"))[0] == 204


async def test_events_tell_what_happened_to_a_container(talk: Talk, own: str) -> None:
    since = str(int(time.time()) - 1)
    await talk("POST", "/containers/create", body(own, HostConfig=HOST), name=own)
    await talk("POST", f"/containers/{own}/start")
    await talk("DELETE", f"/containers/{own}", force="1")
    filters = json.dumps({"label": [f"conformance={own}"], "type": ["container"]})
    _, events = await talk("GET", "/events", since=since, until=str(int(time.time()) + 1), filters=filters)
    told = [(event["Type"], event["Action"], event["Actor"]["Attributes"]["name"]) for event in events]
    assert [("container", action, own) for action in ("create", "start", "destroy")] == [
        each for each in told if each[1] in ("create", "start", "destroy")
    ]


async def test_the_overview_knows_volumes_and_images(talk: Talk, own: str) -> None:
    await talk("POST", "/volumes/create", {"Name": own, "Labels": {"conformance": own}})
    status, told = await talk("GET", "/system/df")
    assert status == 200
    assert [each["UsageData"] for each in told["Volumes"] if each["Name"] == own] == [{"RefCount": 0, "Size": 0}]
    assert any(BASE in (image["RepoTags"] or []) for image in told["Images"])
