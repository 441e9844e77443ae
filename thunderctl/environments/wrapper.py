"""What runs around a command inside a container, as shell scripts: its deadline, and the end of whatever it started.

Every image has ``sh``, and the engine's init is mounted into each container; nothing else is needed. All tools have one
uid and none has CAP_KILL, so the kernel lets them signal each other but never the keeper.

Alone in its container, a command ends with ``kill -9 -1``: one call that needs no fork and misses nobody. Where others
run beside it, it ends whatever descends from it (its init is a subreaper: double forks and new sessions come back to
it) and whatever bears its mark. That finds what is not made to hide; what is, ends with the last of the commands. Since
tools may signal each other, one that kills all it can takes its neighbours of the same environment along.
"""

from __future__ import annotations

from collections.abc import Sequence

from thunderctl.environments.processes import COMMAND_MARK

KILL_AFTER_S = 1
"""Seconds between SIGTERM and SIGKILL at the deadline."""
BEGUN = b"begun\n"
"""Arrives on standard error right before the command begins: without it, nothing of the command was run."""
INIT = "/sbin/docker-init"
"""Where the engine mounts tini, if that is its init."""

# `look PID` sets state, parent, group and name. The name stands in parentheses and may hold anything, a line break
# included. Everything is built into the shell: it works where the limit of processes leaves no room for a fork.
_LOOK = """
look() {
  line=; while read -r part; do line="$line $part"; done <"/proc/$1/stat" || return 1
  [ "$line" ] || return 1
  name=${line#*(}; name=${name%)*}
  set -- ${line##*) }
  state=$1 parent=$2 group=$3
}
"""

# `end_tree PARENTS SPARED MARK` kills, until a look finds none, every process that has one of PARENTS as its parent or
# bears MARK, with its process group. Only what was started from outside has no parent: `others` tells if there is any
# besides those SPARED. A process group may hold a wrapper only if its tools put themselves there. One that forked after
# the list was made and is gone at the look has a child that no list has: such a look is no proof, five of them are.
_END_TREE = f"""
marked() {{
  while read -r part || [ "$part" ]; do
    case $part in *"{COMMAND_MARK}=$2"*) return 0;; esac
  done <"/proc/$1/environ"
  return 1
}}
end_tree() {{
  passes=0 empty=0
  while [ $passes -lt 1000 ] && [ $empty -lt 5 ]; do
    passes=$((passes + 1)) empty=$((empty + 1)) moved= others=
    for at in /proc/[0-9]*; do
      pid=${{at#/proc/}}
      case " 1 $2 " in *" $pid "*) continue;; esac
      look "$pid" || {{ moved=1; continue; }}
      case $state in Z|X) moved=1; continue;; esac
      hit=
      case " $1 " in *" $parent "*) hit=1;; esac
      [ "$hit" ] || {{ [ "$3" ] && marked "$pid" "$3" && hit=1; }}
      if [ "$hit" ]; then
        empty=0
        case " 0 1 $2 " in *" $group "*) ;; *) kill -9 "-$group";; esac
        kill -9 "$pid"
      elif [ "$parent" = 0 ]; then
        others=1
      fi
    done
    [ "$moved" ] || [ $empty = 0 ] || return 0
  done
}}
"""

# $1 deadline, $2 command, $3 seconds to SIGKILL, $4 mark, $5 the init as a subreaper (or nothing), $6 the script below,
# $7… marks of the commands that run already. They are told by an empty file each that they are no longer alone; one
# that is about to kill everything has the name `tool-ends`, and is waited for. Either it sees the file, or it is seen.
# The engine sends SIGTERM when nobody listens to a command any more: it is caught, as the outer shell holds the tree
# together until all of it is ended (a caught signal, unlike an ignored one, is not passed on to what the shell starts).
# The shell's own remarks ("Killed") go nowhere; the command's errors join its output.
_OUTER = (
    _LOOK
    + _END_TREE
    + """
if [ $# -gt 6 ]; then
  exec 3>&2 2>/dev/null
  n=0
  for each in "$@"; do n=$((n + 1)); [ $n -gt 6 ] && echo >"/dev/shm/.tool-$each"; done
  n=0 ends=1
  while [ "$ends" ] && [ $n -lt 500 ]; do
    n=$((n + 1)) ends=
    for at in /proc/[0-9]*; do look "${at#/proc/}" && [ "$name" = tool-ends ] && ends=1; done
  done
  exec 2>&3 3>&-
fi
trap : TERM
echo begun >&2
exec 2>/dev/null
alone=$#
$5 /bin/sh -c "$6" tool "$1" "$2" "$3" "$4" "$alone"
c=$?
printf tool-ends >/proc/$$/comm
[ $alone -gt 6 ] || [ -e "/dev/shm/.tool-$4" ] || { kill -9 -1; exit $c; }
end_tree '' $$ "$4"
[ "$others" ] || kill -9 -1
exit $c
"""
)

# $1 to $4 as above, $5 tells if others ran at the start. Its parent is the subreaper, whose parent is the outer. Names
# are set with printf: the line break of an echo would be part of them.
_INNER = (
    _LOOK
    + _END_TREE
    + """
printf tool-wrapper >/proc/$$/comm
b=$(command -v bash) || b=sh
timeout -k "$3" "$1" "$b" -c "$2" </dev/null 2>&1
c=$?
if [ "$5" -gt 6 ] || [ -e "/dev/shm/.tool-$4" ]; then
  look $PPID
  end_tree "$$ $PPID" "$$ $PPID $parent" "$4"
fi
exit $c
"""
)

_SWEEP_ALL = ("/bin/sh", "-c", "kill -9 -1")

# $1 mark of one command among several. The outer wrapper is the marked one without a parent; its command may have ended
# it, but not the init below. The inner ones are stopped for as long as they are needed to hold the tree together.
_SWEEP_ONE = (
    _LOOK
    + _END_TREE
    + """
exec 2>/dev/null
outer= init= inner=
for at in /proc/[0-9]*; do
  pid=${at#/proc/}
  look "$pid" && [ "$parent" = 0 ] && [ "$pid" != 1 ] && marked "$pid" "$1" && outer="$outer $pid"
done
for at in /proc/[0-9]*; do
  pid=${at#/proc/}
  look "$pid" || continue
  case " $outer " in *" $parent "*) init="$init $pid"; continue;; esac
  [ "$pid" != 1 ] && [ "$name" = docker-init ] && marked "$pid" "$1" && init="$init $pid"
done
for at in /proc/[0-9]*; do
  pid=${at#/proc/}
  look "$pid" && [ "$name" = tool-wrapper ] || continue
  case " $outer $init " in *" $parent "*|*" $pid "*) inner="$inner $pid"; kill -STOP "$pid";; esac
done
end_tree "$init $inner" "$$ $outer $init $inner" "$1"
for pid in $inner $init $outer; do kill -9 "$pid"; done
exit 0
"""
)


def wrapped(command: str, timeout_s: float, mark: str, *, subreaper: bool, beside: Sequence[str]) -> tuple[str, ...]:
    """What the engine is to start for ``command``; ``beside`` are the marks of those that run in the container now."""
    init = f"{INIT} -s --" if subreaper else ""
    return (
        "/bin/sh", "-c", _OUTER, "tool", f"{timeout_s:g}", command, str(KILL_AFTER_S), mark, init, _INNER, *beside,
    )  # fmt: skip


def sweep(mark: str | None) -> tuple[str, ...]:
    """What ends the command ``mark`` from outside; ``None`` ends every tool in the container."""
    return _SWEEP_ALL if mark is None else ("/bin/sh", "-c", _SWEEP_ONE, "tool", mark)
