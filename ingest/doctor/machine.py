"""What needs no network: settings, codecs, event loop."""

from collections import Counter
from importlib import import_module
from importlib.util import find_spec

from ingest.doctor.finding import Findings, ok, warning, wrong
from ingest.doctor.patient import Patient

CODECS = {"gzip": "zlib", "snappy": "cramjam", "lz4": "cramjam", "zstd": "cramjam"}
"""What aiokafka uses for each; it finds out only when the first such batch comes."""


async def settings(patient: Patient) -> Findings:
    """Unknown variables and values that are not allowed."""
    patient.registry = patient.find()
    patient.settings = patient.read()
    places = Counter(patient.settings.origins().values())
    said = ", ".join(f"{count} from {place}" for place, count in places.items())
    return [ok(f"all valid: {said or 'none given, every one has its default'}")]


async def codecs(patient: Patient) -> Findings:
    """Whether batches that producers compressed can be read."""
    lacking = [name for name, module in CODECS.items() if not works(name, module)]
    if lacking:
        return [
            wrong(
                f"{', '.join(lacking)} cannot be decompressed: the first such batch would stop the workers",
                "pip install 'aiokafka[lz4,snappy,zstd]'",
            )
        ]
    return [ok(f"{', '.join(CODECS)} can be read")]


def works(codec: str, module: str) -> bool:
    """Whether the library is there and has this codec."""
    try:
        library = import_module(module)
    except ImportError:
        return False
    return module == "zlib" or hasattr(getattr(library, codec, None), "decompress")


async def event_loop(patient: Patient) -> Findings:
    """The workers' event loop."""
    if find_spec("uvloop") is None:
        return [warning("uvloop is not installed", "pip install uvloop")]
    return [ok("uvloop is installed")]
