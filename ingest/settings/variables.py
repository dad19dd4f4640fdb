"""Settings as an operator meets them: variable names, what each allows, what is wrong with one.

Pure: works on the models of `ingest.settings` and on text; reads nothing.
"""

import json
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from difflib import get_close_matches
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin
from urllib.parse import urlsplit

from pydantic import AwareDatetime, BaseModel, SecretStr, ValidationError
from pydantic.fields import FieldInfo

PREFIX = "ACTIVITY_"
HIDDEN = "********"
TYPES: dict[Any, str] = {
    int: "whole number",
    float: "number",
    bool: "true or false",
    str: "text",
    SecretStr: "secret",
    Path: "file",
    datetime: "RFC 3339 time",
    AwareDatetime: "RFC 3339 time with an offset",
    dict: "a=b,c=d or a JSON object",
    list: "JSON array",
    tuple: "JSON array",
}
# Kubernetes adds these for every Service of the namespace, so a Service called activity-ingest
# would otherwise stop every worker beside it.
SERVICE_LINK = re.compile(r"_SERVICE_HOST$|_SERVICE_PORT(_|$)|_PORT_\d+_(TCP|UDP|SCTP)(_|$)")


class Given(NamedTuple):
    """A value found for a variable, the name it was found under and where."""

    value: str
    spelling: str
    origin: str


@dataclass(frozen=True, slots=True)
class Variable:
    """One setting: `name` in the environment, `field` of the model called `section`."""

    name: str
    section: str
    field: str
    allowed: str
    default: str
    meaning: str
    secret: bool

    @classmethod
    def of(cls, section: str, field: str, info: FieldInfo) -> "Variable":
        """The variable that fills `field` of `section`."""
        extra = info.json_schema_extra
        pinned = "; fixed once rows are stored" if isinstance(extra, dict) and extra.get("pinned") else ""
        return cls(
            name=f"{PREFIX}{section}__{field}".upper(),
            section=section,
            field=field,
            allowed=allowed(info),
            default="" if info.is_required() else plain(info.get_default(call_default_factory=True)),
            meaning=f"{info.description or field}{pinned}",
            secret=SecretStr in _kinds(info.annotation),
        )


def of_section(section: str, model: type[BaseModel]) -> list[Variable]:
    """The variables of one section, in the order the model declares them."""
    return [Variable.of(section, field, info) for field, info in model.model_fields.items()]


def allowed(info: FieldInfo) -> str:
    """What a setting may be, in words: `whole number, 1 to 100`, `json | console`."""
    words = " or ".join(dict.fromkeys(_word(kind) for kind in _kinds(info.annotation)))
    limits = {n: getattr(m, n) for m in info.metadata for n in ("ge", "gt", "le", "lt") if hasattr(m, n)}
    if "ge" in limits and "le" in limits:
        return f"{words}, {plain(limits['ge'])} to {plain(limits['le'])}"
    spoken = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
    return ", ".join([words, *(f"{spoken[n]} {plain(limit)}" for n, limit in limits.items())])


def _kinds(annotation: Any) -> list[Any]:
    """The alternatives of a type without None: `int | None` -> [int]."""
    if hasattr(annotation, "__metadata__"):
        return _kinds(annotation.__origin__)
    if get_origin(annotation) in (Union, UnionType):
        return [kind for part in get_args(annotation) for kind in _kinds(part)]
    return [] if annotation is NoneType else [annotation]


def _word(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return " | ".join(map(str, get_args(kind)))
    return TYPES.get(get_origin(kind) or kind, getattr(kind, "__name__", str(kind)))


def plain(value: object) -> str:
    """A value as one would write it into the environment; a secret stays hidden."""
    match value:
        case None:
            return ""
        case bool():
            return str(value).lower()
        case float() if value.is_integer():
            return str(int(value))
        case SecretStr():
            return HIDDEN
        case datetime():
            return value.isoformat()
        case list() | tuple():
            return json.dumps(value, default=plain)
        case dict():
            return ",".join(f"{name}={part}" for name, part in value.items())
    return str(value)


def without_password(dsn: str) -> str:
    """A connection string fit for a log or a screen."""
    try:
        parts = urlsplit(dsn)
    except ValueError:
        return f"postgresql://{HIDDEN}"
    # An unescaped / ? or # ends the authority early and leaves the rest of a password behind it.
    if not parts.scheme or parts.fragment or "@" in parts.path + parts.query:
        return f"postgresql://{HIDDEN}"
    user, at, hosts = parts.netloc.rpartition("@")
    name, colon, _ = user.partition(":")
    kept = [p for p in parts.query.split("&") if p and not p.partition("=")[0].lower().endswith("password")]
    secret = f":{HIDDEN}" if colon else ""
    query = f"?{'&'.join(kept)}" if kept else ""
    return f"{parts.scheme}://{name}{secret}{at}{hosts}{parts.path}{query}"


def unknown(given: Mapping[str, Given], known: Collection[str]) -> list[str]:
    """One line for each variable of our prefix that is no setting, with the nearest that is one."""
    lines = []
    for name, (value, spelling, origin) in given.items():
        if name in known or not name.startswith(PREFIX) or _is_foreign(name, value):
            continue
        near = get_close_matches(name, known, n=1, cutoff=0.7)
        hint = f"; did you mean {near[0]}?" if near else ""
        lines.append(f"{spelling} ({origin}): there is no such setting{hint}")
    return lines


def _is_foreign(name: str, value: str) -> bool:
    """Whether a variable of our prefix is not meant for us: of Kubernetes, or of our own tests."""
    if "__" in name:
        return False
    address = name.endswith("_PORT") and value.startswith(("tcp://", "udp://", "sctp://"))
    return address or name.startswith(f"{PREFIX}TEST_") or bool(SERVICE_LINK.search(name))


def explain(
    error: ValidationError, known: Mapping[str, Variable], given: Mapping[str, Given], within: str = ""
) -> list[str]:
    """One line for each bad setting: its variable, its value unless secret, and what is allowed.

    `within` is the section where the error is that of a section's model alone.
    """
    lines = []
    for problem in error.errors(include_url=False):
        loc = [part for part in (within, *map(str, problem["loc"])) if part]
        reason = problem["msg"].removeprefix("Value error, ")
        variable = known.get(f"{PREFIX}{'__'.join(loc[:2])}".upper())
        if variable is None:
            lines.append(f"{PREFIX}{loc[0].upper()}__*: {reason}")
            continue
        wanted = f"allowed: {variable.allowed} ({variable.meaning})"
        if problem["type"] in ("value_error", "path_not_file"):
            wanted = {"path_not_file": "there is no such file"}.get(problem["type"], reason)
        if variable.name in given:
            value, spelling, origin = given[variable.name]
            lines.append(f"{spelling}={HIDDEN if variable.secret else value} ({origin}): {wanted}")
        else:
            lines.append(f"{variable.name} is not set: {wanted}")
    return list(dict.fromkeys(lines))


def env_file(described: Iterable[Variable], notes: Mapping[str, str]) -> str:
    """Every variable with its meaning and default, commented out; `notes` by section."""
    lines = [
        "# Every setting of activity-ingest with its default. Copy to .env and uncomment what differs.",
        "# An empty value is no value. Written by: activity-ingest config --env-example",
    ]
    section = ""
    for variable in described:
        if variable.section != section:
            section = variable.section
            lines += ["", "", f"# ---- {section} ----", *filter(None, [notes.get(section)])]
        lines += [
            "",
            f"# {variable.meaning}",
            f"# ({variable.allowed})",
            f"#{variable.name}={variable.default}",
        ]
    return "\n".join(lines) + "\n"
