"""Run a command as a user Postgres accepts, and end it with its parent when asked to.

A script: `python -I launch.py --directory PATH [--namespace UID | --user UID] COMMAND…`. Postgres refuses
uid 0, so root runs it in a user namespace that shows root under another number: files keep their owner, a
checkout in a private folder stays readable, and nothing on the machine changes.
A process of its own, because the fork of a threaded program may not run this much Python.
"""

import argparse
import ctypes
import os
import signal
import sys
from pathlib import Path

CLONE_NEWUSER = 0x10000000
PR_SET_PDEATHSIG = 1
NOT_PERMITTED = 77


def enter_namespace(inside: int) -> None:
    """Show the present user as `inside` to this process and its children."""
    uid, gid = os.geteuid(), os.getegid()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWUSER) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    # The kernel takes a gid_map from an unprivileged writer only once setgroups is denied.
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{inside} {uid} 1")
    Path("/proc/self/gid_map").write_text(f"{inside} {gid} 1")


def become(uid: int) -> None:
    """Give up root for `uid`, and check that the working directory is still ours to use by its full path."""
    os.setgroups([])
    os.setgid(uid)
    os.setuid(uid)
    os.chdir(os.environ["PWD"])
    if not os.access(".", os.R_OK | os.W_OK | os.X_OK):
        raise PermissionError(os.environ["PWD"])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--namespace", type=int)
    parser.add_argument("--user", type=int)
    parser.add_argument("--die-with-parent", type=lambda name: int(signal.Signals[name]))
    parser.add_argument("--parent", type=int, default=0)
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("command", nargs=argparse.REMAINDER)
    wanted = parser.parse_args()
    os.chdir(wanted.directory)
    os.environ["PWD"] = str(wanted.directory)
    try:
        if wanted.namespace is not None:
            enter_namespace(wanted.namespace)
        elif wanted.user is not None:
            become(wanted.user)
    except (OSError, AttributeError) as error:
        print(f"not permitted: {error}", file=sys.stderr)
        sys.exit(NOT_PERMITTED)
    if wanted.die_with_parent and sys.platform == "linux":
        # After the change of user, which clears it.
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, wanted.die_with_parent)
        if os.getppid() != wanted.parent:
            sys.exit("the parent is gone")
    os.execv(wanted.command[0], wanted.command)


if __name__ == "__main__":
    main()
