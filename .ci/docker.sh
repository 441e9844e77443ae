#!/usr/bin/env bash
# Makes sure that a Docker engine answers on the default socket: installs one (Debian, as root) and starts it if need be.
# Running it again changes nothing; it never stops an engine.
set -euo pipefail

fail() {
    echo "docker.sh: $*" >&2
    exit 1
}
answers() { docker version --format '{{.Server.Version}}' >/dev/null 2>&1; }

if ! command -v dockerd >/dev/null || ! command -v docker >/dev/null || ! command -v debootstrap >/dev/null; then
    if ! answers; then
        [ "$(id -u)" = 0 ] || fail "no Docker engine answers, and installing one needs root"
        command -v apt-get >/dev/null || fail "no Docker engine answers, and this is not Debian: install Docker yourself"
        export DEBIAN_FRONTEND=noninteractive
        apt-get update -qq || fail "apt-get update failed"
        apt-get install -y -qq --no-install-recommends docker.io iptables debootstrap >/dev/null ||
            fail "apt-get could not install docker.io"
    fi
fi

if ! answers; then
    [ "$(id -u)" = 0 ] || fail "no Docker engine answers, and starting one needs root"
    log="$(mktemp -d)/dockerd.log"
    # A session of its own: the engine outlives this script and the terminal it was started from.
    setsid nohup dockerd >"$log" 2>&1 </dev/null &
    engine=$!
    for _ in $(seq 120); do
        answers && break
        kill -0 "$engine" 2>/dev/null || { tail -n 20 "$log" >&2; fail "dockerd ended; its log is $log"; }
        sleep 0.5
    done
    answers || { tail -n 20 "$log" >&2; fail "dockerd did not answer within 60 s; its log is $log"; }
    echo "dockerd runs as process $engine; its log is $log"
fi

docker version --format 'client {{.Client.Version}}, engine {{.Server.Version}}'
docker info --format 'storage {{.Driver}}, cgroup v{{.CgroupVersion}} ({{.CgroupDriver}}), init {{.InitBinary}}'
