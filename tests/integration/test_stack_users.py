"""As whom Postgres runs when root starts the stack."""

import asyncio
import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ingest import stack
from ingest.errors import Misconfigured
from ingest.stack import identity
from tests.servers import kill, pids, query, up

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(os.geteuid() != 0, reason="shows how root is served, and this is not root"),
]


def test_root_runs_postgres_in_a_private_folder_and_owns_its_files(stack_root: Path) -> None:
    if not identity.permitted(stack_root, Path(sys.executable), ("--namespace", "65534")):
        pytest.skip("this kernel forbids user namespaces")
    private = stack_root / "private"
    private.mkdir(mode=0o700)
    try:
        up(private)
        postgres, _ = pids(private)
        inside, outside, _ = Path(f"/proc/{postgres}/uid_map").read_text().split()
        assert (int(inside) != 0, outside) == (True, "0")
        owners = {path.stat().st_uid for path in (private / ".stack").rglob("*")}
        assert owners == {0}
    finally:
        stack.down(private)


def enterable(folder: Path) -> bool:
    return all(path.stat().st_mode & stat.S_IXOTH for path in (folder, *folder.parents))


@pytest.fixture
def no_namespaces(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel that forbids user namespaces."""
    permitted: Callable[[Path, Path, tuple[str, ...]], bool] = identity.permitted
    monkeypatch.setattr(
        identity,
        "permitted",
        lambda folder, probe, who: "--namespace" not in who and permitted(folder, probe, who),
    )


@pytest.mark.usefixtures("no_namespaces")
def test_where_namespaces_are_forbidden_root_hands_postgres_to_an_unprivileged_user(stack_root: Path) -> None:
    if not enterable(stack_root):
        pytest.skip("the checkout is in a folder that only root may enter")
    dsn = up(stack_root).postgres_dsn
    postgres, _ = pids(stack_root)
    assert Path(f"/proc/{postgres}").stat().st_uid == identity.NOBODY
    assert asyncio.run(query(dsn, "SELECT 1")) == 1
    kill(postgres)
    assert up(stack_root).postgres_dsn == dsn


@pytest.mark.usefixtures("no_namespaces")
def test_where_nobody_may_enter_the_folder_either_the_mend_says_so(stack_root: Path) -> None:
    private = stack_root / "private"
    private.mkdir(mode=0o700)
    with pytest.raises(Misconfigured) as refused:
        up(private)
    assert "ordinary user" in refused.value.mend
