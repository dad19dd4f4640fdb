"""Settings put together: the fixed sections, and one for each projection there is."""

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeAlias

from pydantic import BaseModel, Field, PrivateAttr, SecretStr, ValidationError, create_model
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from ingest.errors import Misconfigured
from ingest.settings import variables
from ingest.settings.environment import PROJECTION_PATH, SECRETS_DIR, gather
from ingest.settings.kafka import KafkaSettings
from ingest.settings.postgres import PostgresSettings
from ingest.settings.variables import Given, Variable, without_password
from ingest.settings.worker import ContractSettings, HttpSettings, LogSettings, WorkerSettings

Projections: TypeAlias = Iterable[tuple[str, type[BaseModel]]]
"""Name and options model of every projection there is, whether this process runs it or not."""

MEND = "correct it where it was set; `activity-ingest config --help` lists every setting with its unit"


@dataclass(frozen=True, slots=True)
class ProjectionSettings:
    """What holds for one projection: the worker's settings with its own put over them, and its options."""

    name: str
    worker: WorkerSettings
    options: Any


class Settings(BaseSettings):
    """All that is set; a projection's part is reached by `projection(name)`."""

    model_config = SettingsConfigDict(
        env_prefix=variables.PREFIX,
        env_nested_delimiter="__",
        enable_decoding=False,
        frozen=True,
        extra="forbid",
    )

    kafka: KafkaSettings = Field(default_factory=KafkaSettings)
    postgres: PostgresSettings = Field(default_factory=PostgresSettings)
    http: HttpSettings = Field(default_factory=HttpSettings)
    log: LogSettings = Field(default_factory=LogSettings)
    worker: WorkerSettings = Field(default_factory=WorkerSettings)
    contract: ContractSettings = Field(default_factory=ContractSettings)

    _projections: dict[str, ProjectionSettings] = PrivateAttr(default_factory=dict)
    _given: dict[str, Given] = PrivateAttr(default_factory=dict)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Nothing is read behind the back of `load`, which says where each value came from."""
        return (init_settings,)

    def projection(self, name: str) -> ProjectionSettings:
        """What holds for the projection `name`; KeyError for one that `load` was not told of."""
        return self._projections[name]

    def origins(self) -> dict[str, str]:
        """Where each variable that was given came from; all others have their defaults."""
        return {name: given.origin for name, given in self._given.items()}

    def redacted(self) -> dict[str, str]:
        """Every variable's value as text, secrets hidden; a worker setting of one projection where given."""
        shown = {}
        for variable in _variables(type(self)):
            if variable.name in self._given or not _is_override(variable):
                value = getattr(getattr(self, variable.section), variable.field)
                dsn = isinstance(value, SecretStr) and variable.field.endswith("dsn")
                shown[variable.name] = (
                    without_password(value.get_secret_value()) if dsn else variables.plain(value)
                )
        return shown


SECTIONS = tuple(Settings.model_fields)


def load(
    projections: Projections = (),
    *,
    overrides: Mapping[str, str] | None = None,
    env_file: Path | None = Path(".env"),
) -> Settings:
    """The settings in force; `overrides` (variable -> value) win over every other place.

    Raises Misconfigured; its message has a line for each bad or unknown variable.
    """
    named = dict(projections)
    model = _model(named)
    known = {variable.name: variable for variable in _variables(model)}
    found = gather(env_file, overrides or {})
    problems = variables.unknown(found, [SECRETS_DIR.name, PROJECTION_PATH.name, *known])
    given = {name: value for name, value in found.items() if name in known}
    nested = _nested(model, known, given)
    try:
        settings = model.model_validate(nested)
    except ValidationError as error:
        problems += variables.explain(error, known, given)
    else:
        settings._given = given
        for name, options in named.items():
            try:
                settings._projections[name] = _resolve(settings, name, options, nested[name])
            except ValidationError as error:
                problems += variables.explain(error, known, given, within=name)
    if problems:
        raise Misconfigured("\n".join(problems), MEND)
    return settings


def describe(projections: Projections = ()) -> list[Variable]:
    """Every setting with its default, its meaning and unit and what it may be, section by section."""
    described = [v for v in _variables(_model(dict(projections))) if not _is_override(v)]
    return [SECRETS_DIR, PROJECTION_PATH, *described]


def env_example(projections: Projections = ()) -> str:
    """The text of `.env.example`."""
    named = dict(projections)
    notes = {
        name: f"# Also each setting of the worker for this alone: ACTIVITY_{name.upper()}__MAX_ROWS ..."
        for name in named
    }
    return variables.env_file(describe(named.items()), notes)


def _model(named: Mapping[str, type[BaseModel]]) -> type[Settings]:
    sections: dict[str, Any] = {}
    for name, options in named.items():
        clash = sorted(options.model_fields.keys() & WorkerSettings.model_fields)
        if clash or name in SECTIONS or hasattr(Settings, name) or "__" in name:
            what = f"its option {clash[0]}" if clash else "its name"
            raise Misconfigured(
                f"projection {name}: {what} cannot be that of a setting", f"rename it in consumers/{name}.py"
            )
        sections[name] = (create_model(name, __base__=options, **_overrides()), ...)
    return create_model("Settings", __base__=Settings, **sections)


def _overrides() -> dict[str, Any]:
    """The worker's settings as one projection may set them: the same limits, and none = as the worker's."""
    fields: dict[str, Any] = {}
    for name, info in WorkerSettings.model_fields.items():
        annotation: Any = info.annotation
        fields[name] = (
            Annotated[(annotation | None, *info.metadata)],
            Field(default=None, description=info.description),
        )
    return fields


def _is_override(variable: Variable) -> bool:
    return variable.section not in SECTIONS and variable.field in WorkerSettings.model_fields


def _variables(model: type[Settings]) -> list[Variable]:
    found: list[Variable] = []
    for section, info in model.model_fields.items():
        assert isinstance(info.annotation, type)
        found += variables.of_section(section, info.annotation)
    return found


def _nested(
    model: type[Settings], known: Mapping[str, Variable], given: Mapping[str, Given]
) -> dict[str, dict[str, Any]]:
    source = EnvSettingsSource(model)
    source.env_vars = {name.lower(): found.value for name, found in given.items()}
    nested: dict[str, dict[str, Any]] = {section: {} for section in model.model_fields} | source()
    for name, found in given.items():
        variable = known[name]
        if variable.allowed.startswith("JSON"):
            with suppress(ValueError):  # then the text stays, and validation names the variable
                nested[variable.section][variable.field] = json.loads(found.value)
    return nested


def _resolve(
    settings: Settings, name: str, options: type[BaseModel], given: Mapping[str, Any]
) -> ProjectionSettings:
    section: BaseModel = getattr(settings, name)
    own = section.model_dump(include=section.model_fields_set & WorkerSettings.model_fields.keys())
    return ProjectionSettings(
        name=name,
        worker=WorkerSettings.model_validate(settings.worker.model_dump() | own),
        options=options.model_validate({f: value for f, value in given.items() if f in options.model_fields}),
    )
