"""As whom Postgres runs: it refuses root, and initdb refuses a user without a name."""

import os
import pwd
from pathlib import Path

from ingest.errors import Misconfigured
from ingest.stack.process import Launch

NOBODY = 65534


def choose(directory: Path, probe: Path) -> tuple[str, ...]:
    """launch.py's options under which `probe`, a harmless program, runs as the owner of `directory`.

    Root becomes a user namespace's ordinary user, or, where the kernel forbids namespaces, gives `directory`
    to an unprivileged number. Raises Misconfigured where neither works.
    """
    me, owner = os.geteuid(), directory.stat().st_uid
    if me == owner and has_name(me):
        return ()
    if me == owner:
        namespace = ("--namespace", str(named_user()))
        if permitted(directory, probe, namespace):
            return namespace
        if me == 0:
            owner = give_away(directory, NOBODY)
    user = ("--user", str(owner))
    if me == 0 and permitted(directory, probe, user):
        return user
    raise Misconfigured(
        f"Postgres cannot run in {directory} as user {me}",
        "run as an ordinary user who owns the folder, or put it where every user may enter",
    )


def has_name(uid: int) -> bool:
    """Whether Postgres takes this user as it is."""
    return uid != 0 and any(entry.pw_uid == uid for entry in pwd.getpwall())


def named_user() -> int:
    """Some user number other than root's that has a name here; which one does not matter."""
    numbers = {entry.pw_uid for entry in pwd.getpwall()} - {0}
    return NOBODY if NOBODY in numbers or not numbers else min(numbers)


def permitted(directory: Path, probe: Path, identity: tuple[str, ...]) -> bool:
    launch = Launch(directory=directory, identity=identity)
    return launch.run([probe, "--version"]).returncode == 0


def give_away(directory: Path, uid: int) -> int:
    """Make `uid` the owner of `directory` and of all in it; returns `uid`."""
    for path in (directory, *directory.rglob("*")):
        os.chown(path, uid, uid, follow_symlinks=False)
    return uid
