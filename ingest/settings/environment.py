"""The only reader of the environment, of `.env` and of the secrets directory.

Later places win: the secrets directory, `.env`, the environment, the caller's overrides. An empty
value is no value, and hides one from an earlier place.
"""

import os
from collections.abc import Mapping
from pathlib import Path

from ingest.errors import Misconfigured
from ingest.settings.variables import PREFIX, Given, Variable

SECRETS_DIR = Variable(
    name=f"{PREFIX}SECRETS_DIR",
    section="",
    field="",
    allowed="directory",
    default="/run/secrets",
    meaning="files named as variables, in either case, each with the value of that variable",
    secret=False,
)
PROJECTION_PATH = Variable(
    name=f"{PREFIX}PROJECTION_PATH",
    section="",
    field="",
    allowed="directories, separated by colons",
    default="",
    meaning="where further projections are: each directory holds a consumers and a sql directory",
    secret=False,
)
PG = {f"PG_{part}": f"{PREFIX}POSTGRES__{part}" for part in ("HOST", "PORT", "DATABASE", "USER", "PASSWORD")}
DSN = f"{PREFIX}POSTGRES__DSN"


def gather(env_file: Path | None, overrides: Mapping[str, str]) -> dict[str, Given]:
    """Every variable of ours that has a value; raises Misconfigured where a file cannot be read."""
    dotenv = _dotenv(env_file) if env_file else {}
    secrets = os.environ.get(SECRETS_DIR.name) or dotenv.get(SECRETS_DIR.name) or ""
    places: dict[str, Mapping[str, str]] = {
        "secrets directory": _secrets(Path(secrets or SECRETS_DIR.default), required=bool(secrets)),
        str(env_file): dotenv,
        "environment": os.environ,
        "command line": overrides,
    }
    found: dict[str, Given] = {}
    for origin, values in places.items():
        for spelling, value in values.items():
            if _is_ours(spelling):
                found[spelling.upper()] = Given(value.strip(), spelling, origin)
    return _with_pg({name: given for name, given in found.items() if given.value})


def projection_folders(env_file: Path | None = Path(".env")) -> list[Path]:
    """The directories of further projections; asked for before settings, because these bring settings too."""
    given = gather(env_file, {}).get(PROJECTION_PATH.name)
    return [Path(folder) for folder in (given.value if given else "").split(os.pathsep) if folder]


def _is_ours(spelling: str) -> bool:
    return spelling.upper().startswith(PREFIX) or spelling.upper() in PG


def _with_pg(found: dict[str, Given]) -> dict[str, Given]:
    """PG_HOST and its like stand in for our own names, unless a DSN says where the database is."""
    pg = {PG[name]: found.pop(name) for name in PG if name in found}
    return found if DSN in found else pg | found


def _dotenv(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    from dotenv import dotenv_values

    try:
        return {name: value or "" for name, value in dotenv_values(path, encoding="utf-8").items()}
    except (OSError, UnicodeDecodeError) as error:
        raise Misconfigured(f"{path} cannot be read: {error}", "make it a readable UTF-8 file") from None


def _secrets(directory: Path, required: bool) -> dict[str, str]:
    if not directory.is_dir():
        if not required:
            return {}
        raise Misconfigured(
            f"{SECRETS_DIR.name}={directory} is not a directory", "create it, or unset the variable"
        )
    try:
        files = [path for path in directory.iterdir() if _is_ours(path.name) and path.is_file()]
        return {path.name: path.read_text("utf-8") for path in files}
    except (OSError, UnicodeDecodeError) as error:
        raise Misconfigured(f"a secret cannot be read: {error}", "make it a readable UTF-8 file") from None
