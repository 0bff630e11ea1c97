"""Kinds of values in kubeflow.yml: images, amounts, names, paths."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

_PINNED = re.compile(r"[^\s@]+(@sha256:[0-9a-f]{64}|:(?!latest$)[\w][\w.-]{0,127})")


def is_pinned(image: str) -> bool:
    """Whether an image's name says which one is meant: by a tag other than latest, or by its digest."""
    return bool(_PINNED.fullmatch(image)) and "/" not in image.rpartition(":")[2]


def _pinned(image: str) -> str:
    if not is_pinned(image):
        raise ValueError(
            f"{image!r} is not pinned: the same file would run other code tomorrow. Allowed is NAME:TAG with a tag "
            "other than latest, or NAME@sha256:DIGEST. Next: name the image you have pushed"
        )
    return image


def _absolute(path: str) -> str:
    if not PurePosixPath(path).is_absolute():
        raise ValueError(f"{path!r} is relative; allowed is an absolute path inside the container")
    return path


Cores = Annotated[str, Field(pattern=r"^(\d+(\.\d+)?|\d+m)$", coerce_numbers_to_str=True)]
Bytes = Annotated[str, Field(pattern=r"^\d+(\.\d+)?(M|G|T|Ki|Mi|Gi|Ti)$")]
Variable = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
Label = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")]
AbsolutePath = Annotated[str, AfterValidator(_absolute)]
Image = Annotated[str, AfterValidator(_pinned)]


class Settings(BaseModel):
    """A block of kubeflow.yml: no key that is not described, and nothing changed after it is read."""

    model_config = ConfigDict(extra="forbid", frozen=True)
