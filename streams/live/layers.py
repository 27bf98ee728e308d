"""What the map shows below the beliefs, beside its own coastlines: tiles of a server, and a floor plan."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import BaseModel, Field, FiniteFloat, ValidationError

from beliefstream.schemas.base import explain
from beliefstream.streams.bridges.definition_files import documents

PICTURES = {
    ".jpeg": "image/jpeg",
    ".jpg": "image/jpeg",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".webp": "image/webp",
}
# the host goes into the page's policy, so nothing else may be in it
_TILES = re.compile(
    r"https?://[A-Za-z0-9.-]+(:\d+)?/(?=.*\{z\})(?=.*\{x\})(?=.*\{y\})([^{}\s]*\{[xyz]\}){3}[^{}\s]*"
)


class FloorPlan(BaseModel):
    """A picture on the plane, as the YAML file of a ROS map says it; other fields of such a file are passed over."""

    image: Path
    resolution: Annotated[FiniteFloat, Field(gt=0)]  # units of the plane a pixel
    # x and y of the picture's lower left corner, and the angle by which it is turned around that, radians
    origin: tuple[FiniteFloat, FiniteFloat, FiniteFloat]

    @classmethod
    def read(cls, file: Path) -> FloorPlan:
        """Read the file, beside which its image is; raises ValueError that names the field at fault."""
        try:
            found = documents(file.read_bytes(), str(file))
            plan = cls.model_validate(found[0].value if found else None)
        except ValidationError as error:
            raise ValueError(f"{file}: {explain(error)}") from None
        except OSError as error:
            raise ValueError(f"{file}: {error.strerror}") from None
        plan.image = file.parent / plan.image
        if plan.image.suffix.lower() not in PICTURES:
            raise ValueError(f"{file}: image: expected one of {', '.join(PICTURES)} ({plan.image.name})")
        if not plan.image.is_file():
            raise ValueError(f"{file}: image: there is no such file ({plan.image})")
        return plan


@dataclass(frozen=True)
class Layers:
    """What the page is set to show; raises ValueError if `tiles` is not a URL with {z}, {x} and {y}."""

    tiles: str = ""
    attribution: str = ""
    floor_plan: FloorPlan | None = None

    def __post_init__(self) -> None:
        if self.tiles and not _TILES.fullmatch(self.tiles):
            example = "https://tiles.example.org/{z}/{x}/{y}.png"
            raise ValueError(f"map tiles: expected a URL such as {example}, got {self.tiles!r}")

    @property
    def host(self) -> str:
        """Where the tiles are: the page may load pictures from there, and from nowhere else."""
        parts = urlsplit(self.tiles)
        return f"{parts.scheme}://{parts.netloc}" if self.tiles else ""

    def to_json(self) -> dict[str, Any]:
        """As the page reads it."""
        plan = self.floor_plan
        return {
            "tiles": {"url": self.tiles, "attribution": self.attribution} if self.tiles else None,
            "floor_plan": plan and {"resolution": plan.resolution, "origin": plan.origin},
        }
