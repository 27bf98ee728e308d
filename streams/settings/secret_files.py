"""Secrets that are the content of a file: `X_FILE` names the file of the secret `X`."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from beliefstream.streams.kafka.security import SecurityError, readable

SUFFIX = "_file"


class SecretFiles(PydanticBaseSettingsSource):
    """A source of settings: the secrets whose files the variables name.

    Args:
        settings_class: of which the secrets are.
        secrets: names of those settings, in lower case.
        variables: all variables, their names in lower case; an empty one counts as absent.
    """

    def __init__(
        self,
        settings_class: type[BaseSettings],
        secrets: Collection[str],
        variables: Mapping[str, str | None],
    ) -> None:
        super().__init__(settings_class)
        self._secrets, self._variables = secrets, variables

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """The content of the field's file, its name, and that it is a plain value; raises SecurityError."""
        return self._secret(f"{self.config['env_prefix']}{field_name}"), field_name, False

    def __call__(self) -> dict[str, Any]:
        """Read all files; raises SecurityError if one cannot be used, or a secret is also given directly."""
        fields = self.settings_cls.model_fields
        found = {name: self.get_field_value(fields[name], name)[0] for name in self._secrets}
        return {name: value for name, value in found.items() if value is not None}

    def _secret(self, variable: str) -> str | None:
        """The content of the file, without its final newline."""
        stated, direct = f"{variable}{SUFFIX}".upper(), variable.upper()
        if not (file := self._variables.get(stated.lower())):
            return None
        if self._variables.get(direct.lower()):
            raise SecurityError(f"{direct}: set either this or {stated}, not both")
        try:
            text = readable(stated, Path(file)).decode().rstrip("\r\n")
        except UnicodeDecodeError:
            raise SecurityError(f"{stated}: {file} is not text in UTF-8") from None
        if not text:
            raise SecurityError(f"{stated}: {file} is empty")
        return text
