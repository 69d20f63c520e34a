"""Any optax optimiser as a solver: a step follows the gradient on the rows that it is given."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import optax
from jax import Array

from .problem import Params, Problem, norm, objective
from .state import Settings, State, Status, status_of


@dataclasses.dataclass(frozen=True)
class FirstOrder:
    """The solver around an optax rule.

    Attributes:
      rule: what turns gradients into steps.
      line_search: whether the rule evaluates the objective itself, as L-BFGS does; its steps
        must then see the same rows each time.
    """

    rule: optax.GradientTransformationExtraArgs
    line_search: bool = False

    def init(self, problem: Problem, params: Params, settings: Settings) -> State:
        value, gradient = jax.value_and_grad(objective, argnums=1)(problem, params)
        memory = jax.tree.map(_strong, self.rule.init(params))
        zero = jnp.int32(0)
        return self._state(params, value, gradient, zero, settings, memory)

    def step(self, problem: Problem, state: State) -> State:
        """One update; `objective` and `gradient_norm` are those of its start, on its rows."""

        def value_of(params: Params) -> Array:
            return objective(problem, params)

        if self.line_search:
            differentiate = optax.value_and_grad_from_state(value_of)
            value, gradient = differentiate(state.params, state=state.memory)
        else:
            value, gradient = jax.value_and_grad(value_of)(state.params)
        updates, memory = self.rule.update(
            gradient, state.memory, state.params, value=value, grad=gradient, value_fn=value_of
        )
        params = optax.apply_updates(state.params, updates)
        if self.line_search:  # the point it has found is known
            value = optax.tree_utils.tree_get(memory, "value")
            gradient = optax.tree_utils.tree_get(memory, "grad")
        after = self._state(params, value, gradient, state.iterations + 1, state.settings, memory)
        diverged = after.status == Status.DIVERGED
        after = after._replace(
            params=jax.tree.map(lambda a, b: jnp.where(diverged, a, b), state.params, params)
        )
        done = state.status != Status.RUNNING
        result: State = jax.tree.map(lambda a, b: jnp.where(done, a, b), state, after)
        return result

    def _state(
        self,
        params: Params,
        value: Array,
        gradient: Params,
        iterations: Array,
        settings: Settings,
        memory: object,
    ) -> State:
        size = norm(gradient)
        return State(
            params,
            value,
            size,
            iterations,
            jnp.int32(0),
            status_of(value, size, iterations, settings),
            settings,
            memory,
        )


def _strong(leaf: Array) -> Array:
    """Weakly typed initial states would not match the state that a compiled step returns."""
    return jax.lax.convert_element_type(leaf, jnp.asarray(leaf).dtype)
