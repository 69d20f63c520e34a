"""Optimisers: one tagged model per optax optimiser, so each accepts its own keys and no others."""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated, ClassVar, Literal

import optax
import optax.contrib
from pydantic import Field

from jaxsoftmax.training.schema import Count, Decay, NonNegative, Positive, Section

from . import first_order, newton_cg, proximal
from .schedules import Constant, Horizon, Plateau, Schedule
from .state import Solver


class FirstOrder(Section):
    """What every optimiser that follows a (mini-batch) gradient shares."""

    needs_full_batch: ClassVar[bool] = False

    epochs: Count = Field(description="How often all training rows are seen.")
    batch_size: Count | None = Field(
        default=None, description="Rows per step; all training rows when left out."
    )
    learning_rate: Positive
    schedule: Schedule = Constant(name="constant")
    clip_norm: Positive | None = Field(
        default=None, description="Longer gradients are scaled down to this norm."
    )
    patience: Count | None = Field(
        default=None,
        description="Stops when the validation loss has not fallen for so many epochs, and keeps "
        "the epoch where it was lowest; when left out, the last epoch is kept.",
    )

    @abstractmethod
    def rule(self, rate: optax.Schedule) -> optax.GradientTransformation:
        """The optax update rule at this learning rate."""

    def build(self, horizon: Horizon) -> optax.GradientTransformationExtraArgs:
        rule = self.rule(self.schedule.build(self.learning_rate, horizon))
        if self.clip_norm is not None:
            rule = optax.chain(optax.clip_by_global_norm(self.clip_norm), rule)
        if isinstance(self.schedule, Plateau):
            rule = optax.chain(rule, self.schedule.rule(horizon))
        return optax.with_extra_args_support(rule)

    def solver(self, horizon: Horizon) -> Solver:
        """The solver around `build`."""
        return first_order.FirstOrder(self.build(horizon))


class Sgd(FirstOrder):
    name: Literal["sgd"]

    def rule(self, rate: optax.Schedule) -> optax.GradientTransformation:
        return optax.sgd(rate)


class Momentum(FirstOrder):
    name: Literal["momentum"]
    momentum: Decay = 0.9
    nesterov: bool = False

    def rule(self, rate: optax.Schedule) -> optax.GradientTransformation:
        return optax.sgd(rate, momentum=self.momentum, nesterov=self.nesterov)


class _Moments(FirstOrder):
    """Moving averages of the gradient and of its square."""

    b1: Decay = 0.9
    b2: Decay = 0.999
    eps: Positive = 1e-8


class Adam(_Moments):
    name: Literal["adam"]

    def rule(self, rate: optax.Schedule) -> optax.GradientTransformation:
        return optax.adam(rate, self.b1, self.b2, self.eps)


class AdamW(_Moments):
    name: Literal["adamw"]
    weight_decay: NonNegative = 1e-4

    def rule(self, rate: optax.Schedule) -> optax.GradientTransformation:
        return optax.adamw(rate, self.b1, self.b2, self.eps, weight_decay=self.weight_decay)


class Nadam(_Moments):
    name: Literal["nadam"]

    def rule(self, rate: optax.Schedule) -> optax.GradientTransformation:
        return optax.nadam(rate, self.b1, self.b2, self.eps)


class Radam(_Moments):
    name: Literal["radam"]

    def rule(self, rate: optax.Schedule) -> optax.GradientTransformation:
        return optax.radam(rate, self.b1, self.b2, self.eps)


class AmsGrad(_Moments):
    name: Literal["amsgrad"]

    def rule(self, rate: optax.Schedule) -> optax.GradientTransformation:
        return optax.amsgrad(rate, self.b1, self.b2, self.eps)


class AdaBelief(_Moments):
    name: Literal["adabelief"]
    eps: Positive = 1e-16

    def rule(self, rate: optax.Schedule) -> optax.GradientTransformation:
        return optax.adabelief(rate, self.b1, self.b2, self.eps)


class Lamb(_Moments):
    name: Literal["lamb"]
    eps: Positive = 1e-6
    weight_decay: NonNegative = 0.0

    def rule(self, rate: optax.Schedule) -> optax.GradientTransformation:
        return optax.lamb(rate, self.b1, self.b2, self.eps, weight_decay=self.weight_decay)


class Lion(FirstOrder):
    name: Literal["lion"]
    b1: Decay = 0.9
    b2: Decay = 0.99
    weight_decay: NonNegative = 1e-3

    def rule(self, rate: optax.Schedule) -> optax.GradientTransformation:
        return optax.lion(rate, self.b1, self.b2, weight_decay=self.weight_decay)


class RmsProp(FirstOrder):
    name: Literal["rmsprop"]
    decay: Decay = 0.9
    eps: Positive = 1e-8
    momentum: Decay = 0.0

    def rule(self, rate: optax.Schedule) -> optax.GradientTransformation:
        return optax.rmsprop(rate, self.decay, self.eps, momentum=self.momentum)


class Adagrad(FirstOrder):
    name: Literal["adagrad"]
    initial_accumulator: NonNegative = 0.1
    eps: Positive = 1e-7

    def rule(self, rate: optax.Schedule) -> optax.GradientTransformation:
        return optax.adagrad(rate, self.initial_accumulator, self.eps)


class Muon(FirstOrder):
    """Orthogonalised momentum for the kernel; Adam for the bias."""

    name: Literal["muon"]
    momentum: Decay = 0.95
    nesterov: bool = True
    weight_decay: NonNegative = 0.0

    def rule(self, rate: optax.Schedule) -> optax.GradientTransformation:
        return optax.contrib.muon(
            rate, beta=self.momentum, nesterov=self.nesterov, weight_decay=self.weight_decay
        )


class FullBatch(Section):
    """What every solver shares whose steps see all training rows."""

    needs_full_batch: ClassVar[bool] = True

    tolerance: NonNegative = Field(
        default=1e-5, description="Converged where no entry of the gradient is above this."
    )
    max_iterations: Count = 200


class Lbfgs(FullBatch):
    """Limited-memory BFGS with a zoom line search."""

    name: Literal["lbfgs"]
    memory_size: Count = 10
    line_search_steps: Count = 20

    def build(self, horizon: Horizon) -> optax.GradientTransformationExtraArgs:
        line_search = optax.scale_by_zoom_linesearch(
            max_linesearch_steps=self.line_search_steps, initial_guess_strategy="one"
        )
        return optax.lbfgs(memory_size=self.memory_size, linesearch=line_search)

    def solver(self, horizon: Horizon) -> Solver:
        """The solver around `build`."""
        return first_order.FirstOrder(self.build(horizon), line_search=True)


class NewtonCg(FullBatch):
    """Truncated Newton with conjugate gradients: few steps, each of several passes over rows."""

    name: Literal["newton_cg"]

    def solver(self, horizon: Horizon) -> Solver:
        """The solver; its length is decided by the tolerance."""
        del horizon
        return newton_cg.NewtonCg()


class Fista(FullBatch):
    """Accelerated proximal gradient steps, for penalties with an l1."""

    name: Literal["fista"]
    max_iterations: Count = 5000

    def solver(self, horizon: Horizon) -> Solver:
        """The solver; its length is decided by the tolerance."""
        del horizon
        return proximal.Proximal()


Optimizer = Annotated[
    NewtonCg
    | Sgd
    | Momentum
    | Adam
    | AdamW
    | Nadam
    | Radam
    | AmsGrad
    | AdaBelief
    | Lamb
    | Lion
    | RmsProp
    | Adagrad
    | Muon
    | Lbfgs
    | Fista,
    Field(discriminator="name"),
]
