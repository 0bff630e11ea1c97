"""What `corpus:` in YAML may say: the format, where it lies, and how its columns are called."""

from __future__ import annotations

import codecs
import difflib
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from imprint.errors import SettingsError
from imprint.tasks import TASKS


def _nothing_as_none(value: Any) -> Any:
    """YAML and environment variables write "nothing" in several ways: null, an empty string, the word null."""
    return None if isinstance(value, str) and value.strip().lower() in {"", "null", "none"} else value


OptionalText = Annotated[str | None, BeforeValidator(_nothing_as_none)]


class ColumnMap(BaseModel):
    """Which column (or JSON key) of a jsonl, csv or parquet corpus holds what; null where the corpus has none."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    user: str = Field("user_id", min_length=1, description="Column with the raw id of the user.")
    query: OptionalText = Field("query", description="Column with the query; null when every query is empty.")
    response: str = Field("response", min_length=1, description="Column with the response.")
    time: OptionalText = Field("time", description="Column with the time: ISO 8601, or epoch seconds or milliseconds.")
    id: OptionalText = Field("id", description="Column with an id that is unique within a user and never changes.")
    persona: OptionalText = Field("persona", description="Column with the persona: a list, or lines of text.")
    task: OptionalText = Field(None, description="Column with the task of a row; null when all rows have one task.")


class FabricateSettings(BaseModel):
    """Size and seed of the fabricated corpus."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    users: int = Field(48, ge=1, le=100_000, description="Users with a long history, each worth a memory.")
    interactions: int = Field(110, ge=20, le=1000, description="Interactions of each of them.")
    background_users: int = Field(160, ge=0, le=1_000_000, description="Users with a short history (for the base).")
    background_interactions: int = Field(24, ge=10, le=1000, description="Interactions of each of those.")
    seed: int = Field(7, ge=0, description="Seed: the same seed gives the same corpus on every platform.")


class CorpusSettings(BaseModel):
    """One corpus: what it is, where it lies, how to read it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: str = Field(description="One of the formats in `imprint.corpora.CORPORA`.")
    path: OptionalText = Field(None, description="File or folder of the corpus; null for the fabricated corpus.")
    name: OptionalText = Field(None, description="Name of the corpus, part of every pseudonym; null means the format.")
    columns: ColumnMap = Field(default_factory=ColumnMap, description="Column names of jsonl, csv and parquet.")
    attributes: dict[str, str] = Field(
        default_factory=dict, description="Further columns to keep: attribute name to column name."
    )
    task: OptionalText = Field(
        None, description="What the rows ask for, of the tasks that the format offers; null means its first."
    )
    encoding: str = Field("utf-8", description="Text encoding of jsonl and csv files.")
    context_messages: int = Field(2, ge=1, le=2, description="IRC: how many earlier messages make up the query.")
    fabricate: FabricateSettings = Field(
        default_factory=FabricateSettings, description="Size and seed of the fabricated corpus."
    )

    @property
    def corpus_name(self) -> str:
        """The name that goes into pseudonyms and into the `corpus` column."""
        return self.name or self.format

    @field_validator("format")
    @classmethod
    def _known_format(cls, value: str) -> str:
        from imprint.corpora import CORPORA  # the dict lives beside the readers, and imports this module

        if value in CORPORA:
            return value
        close = difflib.get_close_matches(value, CORPORA, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise SettingsError(
            f"corpus.format is {value!r}; allowed are {', '.join(CORPORA)}.{hint} "
            "Next: choose one of them, or add a reader and its line in imprint/corpora/__init__.py."
        )

    @field_validator("task")
    @classmethod
    def _known_task(cls, value: str | None) -> str | None:
        if value is not None and value not in TASKS:
            raise SettingsError(f"corpus.task is {value!r}; allowed are {', '.join(TASKS)}. Next: choose one of them.")
        return value

    @field_validator("encoding")
    @classmethod
    def _line_based_encoding(cls, value: str) -> str:
        try:
            newline = "\n".encode(codecs.lookup(value).name)
        except (LookupError, TypeError) as error:
            raise SettingsError(
                f"corpus.encoding is {value!r}, which Python does not know. Next: use utf-8, or the file's own."
            ) from error
        if newline != b"\n":
            raise SettingsError(
                f"corpus.encoding is {value!r}; allowed are encodings whose newline is one byte (utf-8, latin-1, "
                "cp1252 and the like). Next: convert the file to UTF-8 and set corpus.encoding to utf-8."
            )
        return value

    @model_validator(mode="after")
    def _path_fits_format(self) -> CorpusSettings:
        if self.format == "fabricated" and self.path is not None:
            raise SettingsError(
                f"corpus.path is {self.path!r} but corpus.format is 'fabricated', which is made and not read. "
                "Next: set corpus.path to null, or corpus.format to the format of those files."
            )
        if self.format != "fabricated" and self.path is None:
            raise SettingsError(
                f"corpus.path is null but corpus.format {self.format!r} reads files. "
                "Next: set corpus.path to the file or folder."
            )
        return self
