"""What every section of a config shares: strict, frozen, no unknown keys, finite numbers."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class Section(BaseModel):
    """One table of a config file, or one object of a file that a run leaves."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", allow_inf_nan=False)


Count = Annotated[int, Field(gt=0)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Decay = Annotated[float, Field(ge=0, lt=1)]  # of a moving average
Share = Annotated[float, Field(gt=0, lt=1)]  # of a whole
Factor = Annotated[float, Field(gt=0, le=1)]  # of the learning rate
