"""What the sections of the settings share."""

from pydantic import BaseModel, BeforeValidator, ConfigDict

Lower = BeforeValidator(lambda value: value.lower() if isinstance(value, str) else value)
Upper = BeforeValidator(lambda value: value.upper() if isinstance(value, str) else value)


class Section(BaseModel):
    """A group of settings; each field's description carries its unit."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def given(self, *prefixes: str) -> list[str]:
        """Fields that were set, rather than left to their defaults, whose names begin so."""
        return sorted(field for field in self.model_fields_set if field.startswith(prefixes))
