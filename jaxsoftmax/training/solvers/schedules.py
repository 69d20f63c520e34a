"""Learning-rate schedules: one tagged model per optax schedule.

A schedule is a shape, stretched over the whole run: its height is the optimiser's
``learning_rate`` and its length is the number of steps, so neither is written twice.
"""

from __future__ import annotations

from typing import Annotated, Literal, NamedTuple, Self

import optax
import optax.contrib
from pydantic import Field, model_validator

from jaxsoftmax.training.schema import Count, Factor, NonNegative, Positive, Section, Share

Floor = Annotated[float, Field(ge=0, le=1)]


class Horizon(NamedTuple):
    """How long a run is, in optimiser steps."""

    steps_per_epoch: int
    steps: int


class Constant(Section):
    """The learning rate stays as it is."""

    name: Literal["constant"]

    def build(self, peak: float, horizon: Horizon) -> optax.Schedule:
        return optax.constant_schedule(peak)


class Linear(Section):
    """A straight line from the learning rate to ``end`` times it."""

    name: Literal["linear"]
    end: Floor = 0.0

    def build(self, peak: float, horizon: Horizon) -> optax.Schedule:
        return optax.linear_schedule(peak, peak * self.end, horizon.steps)


class Polynomial(Section):
    """Like linear, with the remaining share of the run raised to ``power``."""

    name: Literal["polynomial"]
    power: Positive
    end: Floor = 0.0

    def build(self, peak: float, horizon: Horizon) -> optax.Schedule:
        return optax.polynomial_schedule(peak, peak * self.end, self.power, horizon.steps)


class Cosine(Section):
    """Half a cosine wave from the learning rate down to ``end`` times it."""

    name: Literal["cosine"]
    end: Floor = 0.0

    def build(self, peak: float, horizon: Horizon) -> optax.Schedule:
        return optax.cosine_decay_schedule(peak, horizon.steps, alpha=self.end)


class WarmupCosine(Section):
    """A rise from ``start`` times the learning rate over a share of the run, then a cosine."""

    name: Literal["warmup_cosine"]
    warmup: Share = 0.1
    start: Floor = 0.0
    end: Floor = 0.0

    def build(self, peak: float, horizon: Horizon) -> optax.Schedule:
        return optax.warmup_cosine_decay_schedule(
            init_value=peak * self.start,
            peak_value=peak,
            warmup_steps=int(self.warmup * horizon.steps),
            decay_steps=horizon.steps,
            end_value=peak * self.end,
        )


class Exponential(Section):
    """Multiplied by ``rate`` each epoch: smoothly, or at its end with ``staircase``."""

    name: Literal["exponential"]
    rate: Factor
    staircase: bool = False

    def build(self, peak: float, horizon: Horizon) -> optax.Schedule:
        return optax.exponential_decay(
            peak, horizon.steps_per_epoch, self.rate, staircase=self.staircase
        )


class Piecewise(Section):
    """Multiplied by ``factors[i]`` when ``epochs[i]`` epochs are done."""

    name: Literal["piecewise"]
    epochs: tuple[Count, ...]
    factors: tuple[NonNegative, ...]

    @model_validator(mode="after")
    def _one_factor_per_epoch(self) -> Self:
        if len(self.epochs) != len(self.factors):
            raise ValueError(
                f"epochs and factors must be equally long, "
                f"got {len(self.epochs)} and {len(self.factors)}"
            )
        if list(self.epochs) != sorted(set(self.epochs)):
            raise ValueError(f"epochs must increase, got {list(self.epochs)}")
        return self

    def build(self, peak: float, horizon: Horizon) -> optax.Schedule:
        steps = [epoch * horizon.steps_per_epoch for epoch in self.epochs]
        return optax.piecewise_constant_schedule(peak, dict(zip(steps, self.factors, strict=True)))


class Plateau(Section):
    """Multiplied by ``factor`` when the training loss has not fallen for ``patience`` epochs."""

    name: Literal["plateau"]
    factor: Share = 0.1
    patience: Count = 5

    def build(self, peak: float, horizon: Horizon) -> optax.Schedule:
        return optax.constant_schedule(peak)

    def rule(self, horizon: Horizon) -> optax.GradientTransformationExtraArgs:
        """What follows the optimiser's rule; it sees the loss of every batch."""
        return optax.contrib.reduce_on_plateau(
            self.factor, self.patience, accumulation_size=horizon.steps_per_epoch
        )


Schedule = Annotated[
    Constant | Linear | Polynomial | Cosine | WarmupCosine | Exponential | Piecewise | Plateau,
    Field(discriminator="name"),
]
