"""The shared network and what a spec may ask of a container: ports, mounts, another user."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import aiohttp
import pytest

from tests.environments.docker_places import Places, base_image, places
from tests.environments.test_collector import child_env
from thunderctl import paths
from thunderctl.environments.docker import KEEPER
from thunderctl.environments.network import drop_network, ensure_network, find_network, network_name
from thunderctl.environments.spec import Mount
from thunderctl.errors import EnvironmentFailure

__all__ = ["base_image", "places"]  # fixtures

pytestmark = pytest.mark.docker

SERVE = "python3 -m http.server 8000 --bind 0.0.0.0"
ASK = "python3 -c 'import sys, urllib.request as u; print(u.urlopen(sys.argv[1], timeout=3).status)'"


async def test_two_processes_that_need_the_network_at_once_make_one(places: Places) -> None:
    script = (
        "import sys\nfrom thunderctl import paths\nfrom thunderctl.environments.docker import connect\n"
        "from thunderctl.environments.network import ensure_network\nclient = connect()\nprint('ready', flush=True)\n"
        "sys.stdin.readline()\nensure_network(client, paths.owner())\n"
    )
    racers = [
        subprocess.Popen([sys.executable, "-c", script], stdin=-1, stdout=-1, env=child_env(), text=True)
        for _ in range(3)
    ]
    for racer in racers:
        assert racer.stdout is not None and racer.stdout.readline() == "ready\n"
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: ensure_network(places.client, paths.owner()), range(4)))
    for racer in racers:
        assert racer.wait(60) == 0
        racer.communicate()
    found = [each for each in places.client.api.networks() if each["Name"] == network_name(paths.owner())]
    assert len(found) == 1
    assert found[0]["Labels"] == {"thunderctl.owner": paths.owner()}
    assert found[0]["Options"]["com.docker.network.bridge.enable_icc"] == "false"
    drop_network(places.client, paths.owner())


async def test_environments_share_a_network_on_which_they_cannot_talk(places: Places) -> None:
    server, other = await places.make(network="bridge"), await places.make(network="bridge")
    told = places.client.api.inspect_container(server.container)["NetworkSettings"]["Networks"]
    (on,) = told.values()
    running = asyncio.create_task(server.execute(SERVE, timeout_s=600))
    while (await server.execute(f"{ASK} http://127.0.0.1:8000")).output != "200\n":
        await asyncio.sleep(0.1)
    done = await other.execute(f"{ASK} http://{on['IPAddress']}:8000")
    assert done.returncode != 0
    drop_network(places.client, paths.owner())
    assert find_network(places.client) == on["NetworkID"]
    running.cancel()


async def test_a_network_that_was_taken_away_is_made_again(places: Places) -> None:
    first = ensure_network(places.client, paths.owner())
    places.client.api.remove_network(first)
    place = await places.make(network="bridge")
    assert "eth0" in (await place.execute("ls /sys/class/net")).output


async def test_a_published_port_answers_on_the_loopback_under_a_number_that_the_engine_chose(places: Places) -> None:
    one, two = [await places.make(network="bridge", ports=(8000,)) for _ in range(2)]
    numbers = [(await places.backend.ports(each.lease))[8000] for each in (one, two)]
    assert len(set(numbers)) == 2
    running = [asyncio.create_task(each.execute(f"echo {n} > name; {SERVE}", 600)) for n, each in enumerate((one, two))]
    async with aiohttp.ClientSession() as session, asyncio.timeout(60):
        for n, number in enumerate(numbers):
            while True:
                try:
                    async with session.get(f"http://127.0.0.1:{number}/name") as answer:
                        assert await answer.text() == f"{n}\n"
                        break
                except aiohttp.ClientError:
                    await asyncio.sleep(0.1)
    for each in running:
        each.cancel()


async def test_what_no_container_can_have_is_refused_before_anything_is_made(places: Places, tmp_path: Path) -> None:
    for said, spec in {
        'network to "bridge"': {"ports": (8000,)},
        "from 1 to 65535": {"ports": (0,), "network": "bridge"},
        "files": {"mounts": (Mount(Path("/var/run"), "/x"),)},
        "full path": {"mounts": (Mount(Path("here"), "/x"),)},
        "another user": {"user": KEEPER},
    }.items():
        with pytest.raises(EnvironmentFailure) as failure:
            await places.make(**spec)
        assert said in (failure.value.hint or ""), failure.value.message
    assert places.client.containers.list(all=True, filters={"label": f"thunderctl.owner={paths.owner()}"}) == []


async def test_a_mount_is_read_only_unless_it_is_writable(places: Places, tmp_path: Path) -> None:
    for name in ("given", "shared"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a").write_text("1\n")
    mounts = (Mount(tmp_path / "given", "/given"), Mount(tmp_path / "shared", "/shared", writable=True))
    place = await places.make(mounts=mounts)
    done = await place.execute(
        "cat /given/a; touch /given/b || echo refused; echo 2 > /shared/b; umount /given || echo no"
    )
    assert done.output.splitlines()[0] == "1"
    assert "refused" in done.output and done.output.endswith("no\n")
    assert not (tmp_path / "given" / "b").exists()
    assert (tmp_path / "shared" / "b").read_text() == "2\n"


@pytest.mark.parametrize(("user", "who"), [("nobody", "65534 65534"), ("1234:77", "1234 77"), (None, "0 0")])
async def test_tools_are_the_user_that_was_asked_for(places: Places, user: str | None, who: str) -> None:
    place = await places.make(user=user, workdir="/srv/here")
    await places.backend.put_files(place.lease, place.wanted, {"given": b"1"})
    done = await place.execute("echo $(id -u) $(id -g); echo $(stat -c '%u %g' . given); touch mine && kill -9 -1")
    assert done.output == f"{who}\n{who} {who}\n"
    assert (await place.execute("ls")).output == "given\nmine\n"


async def test_a_user_that_the_image_does_not_know_is_named(places: Places) -> None:
    with pytest.raises(EnvironmentFailure, match="does not tell who its user 'stranger' is"):
        await places.make(user="stranger")


async def test_a_folder_comes_out_as_a_tar_of_limited_size(places: Places) -> None:
    place = await places.make()
    await place.execute("mkdir -p out; echo 1 > out/a; ln -s /etc/passwd out/link")
    tar = await places.backend.read_tree(place.lease, place.wanted, "out", 10_000)
    done = subprocess.run(["tar", "-tvf", "-"], input=tar, capture_output=True, check=True).stdout.decode()
    assert "out/a\n" in done and "out/link -> /etc/passwd" in done
    await place.execute("head -c 4M /dev/zero > out/big")
    with pytest.raises(EnvironmentFailure, match="larger than 10000 bytes"):
        await places.backend.read_tree(place.lease, place.wanted, "out", 10_000)
