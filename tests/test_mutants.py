"""Wrong rules: the harness that accepts the right ones kills every one of these.

Each family is a function with its rules in named parts; a mutant replaces one part, as a slip of
the pen would.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsoftmax import custom_rules
from tests import oracle
from tests.mutants import Parts, elementwise, survives, total

pytestmark = [
    pytest.mark.default_modes,
    pytest.mark.once,
    pytest.mark.usefixtures("equal_programs_are_compiled_once"),
]
RNG = np.random.default_rng(4)

# ------------------------------------------------------------------------------------------------
# softmax and log_softmax
# ------------------------------------------------------------------------------------------------

SOFTMAX: Parts = {
    "jvp": lambda p, v: p * (v - total(p * v)),
    "vjp": lambda p, v: p * (v - total(p * v)),
}
SOFTMAX_MUTANTS: dict[str, Parts] = {
    "diagonal of the Jacobian only": {"vjp": lambda p, v: p * (1 - p) * v},
    "dropped sum in the VJP": {"vjp": lambda p, v: p * v},
    "dropped sum in the JVP": {"jvp": lambda p, v: p * v},
    "sign of the sum in the VJP": {"vjp": lambda p, v: p * (v + total(p * v))},
    "sign of the sum in the JVP": {"jvp": lambda p, v: p * (v + total(p * v))},
    "p forgotten inside the sum": {"vjp": lambda p, v: p * (v - total(v))},
    "p squared inside the sum": {"vjp": lambda p, v: p * (v - total(p * p * v))},
    "sum along the wrong axis": {"vjp": lambda p, v: p * (v - total(p * v, 0))},
    "one percent too much": {"vjp": lambda p, v: 1.01 * SOFTMAX["vjp"](p, v)},
    "one part in a million too much": {"jvp": lambda p, v: 1.000001 * SOFTMAX["jvp"](p, v)},
    "zero at the largest": {
        "vjp": lambda p, v: jnp.where(p == jnp.max(p, -1, keepdims=True), 0, SOFTMAX["vjp"](p, v))
    },
    "residual of another row": {"saved": lambda p: jnp.roll(p, 1, 0)},
    "right at order 1 only": {"saved": jax.lax.stop_gradient},
    "VJP right at order 1 only": {"vjp": lambda p, v: SOFTMAX["vjp"](jax.lax.stop_gradient(p), v)},
    "JVP right at order 1 only": {"jvp": lambda p, v: SOFTMAX["jvp"](jax.lax.stop_gradient(p), v)},
}

LOG_SOFTMAX: Parts = {
    "jvp": lambda p, v: v - total(p * v),
    "vjp": lambda p, v: v - p * total(v),
}
LOG_SOFTMAX_MUTANTS: dict[str, Parts] = {
    "J where its transpose is right": {"vjp": LOG_SOFTMAX["jvp"]},
    "the transpose where J is right": {"jvp": LOG_SOFTMAX["vjp"]},
    "dropped sum in the VJP of the logarithm": {"vjp": lambda p, v: v},
    "mean in place of the expectation": {"jvp": lambda p, v: v - jnp.mean(v, -1, keepdims=True)},
    "mean cotangent": {"vjp": lambda p, v: v - p * jnp.mean(v, -1, keepdims=True)},
    "p of another class": {"vjp": lambda p, v: v - jnp.roll(p, 1, -1) * total(v)},
}

FAMILIES = {
    "softmax": (oracle.softmax, SOFTMAX, SOFTMAX_MUTANTS),
    "log_softmax": (oracle.log_softmax, LOG_SOFTMAX, LOG_SOFTMAX_MUTANTS),
}
X = RNG.normal(size=(2, 3))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_right_rules_survive(family: str) -> None:
    textbook, right, _ = FAMILIES[family]
    assert survives(elementwise(textbook, right), X, oracle=textbook)


CASES = [(family, mutant) for family in FAMILIES for mutant in FAMILIES[family][2]]


@pytest.mark.parametrize(("family", "mutant"), CASES)
def test_a_wrong_rule_is_killed(family: str, mutant: str) -> None:
    textbook, right, mutants = FAMILIES[family]
    assert not survives(elementwise(textbook, right | mutants[mutant]), X, oracle=textbook)


# ------------------------------------------------------------------------------------------------
# The linear loss with every option
# ------------------------------------------------------------------------------------------------

CAP, Z_LOSS, SMOOTHING = 2.0, 0.3, 0.2
MASK = np.array([[True, True, True], [True, True, False]])
CLASS_WEIGHTS = np.array([0.5, 2.0, 1.0])
textbook_linear = partial(
    oracle.linear_softmax_cross_entropy,
    where=MASK,
    label_smoothing=SMOOTHING,
    z_loss=Z_LOSS,
    logit_softcap=CAP,
    class_weights=CLASS_WEIGHTS,
)


def loss_oracle(f: Any, w: Any, b: Any, t: Any, u: Any, xp: Any = np) -> Any:
    return textbook_linear(f, w, t, b, weights=u, xp=xp)


# g = u (T p - t + 2λ s p) (1 - (x/c)²) / Σu, one row for each example
LINEAR: Parts = {
    "logits": lambda f, w, b: CAP * jnp.tanh((f @ w + b) / CAP),
    "p": lambda x: oracle.softmax(x, where=MASK, xp=jnp),
    "s": lambda x: oracle.logsumexp(x, -1, keepdims=True, where=MASK, xp=jnp),
    "smoothed": lambda t: (1 - SMOOTHING) * t + SMOOTHING / total(MASK),
    "target": lambda t: jnp.where(MASK, t * CLASS_WEIGHTS, 0.0),
    "mass": total,
    "z_loss": lambda s, p: 2 * Z_LOSS * s * p,
    "cap": lambda x: 1 - (x / CAP) ** 2,
    "weights": lambda u: u[:, None],
    "count": jnp.sum,
    "g": lambda g: g,
    "target_bar": lambda x, s: (1 - SMOOTHING) * CLASS_WEIGHTS * jnp.where(MASK, s - x, 0.0),
    "weights_bar": lambda losses, loss, u: (losses - loss) / jnp.sum(u),
    "logits_dot": lambda f, w, f_dot, w_dot, b_dot: f_dot @ w + f @ w_dot + b_dot,
    "f_bar": lambda g, f, w: g @ w.T,
    "w_bar": lambda g, f, w: f.T @ g,
    "b_bar": lambda g: jnp.sum(g, 0),
}
LINEAR_MUTANTS: dict[str, Parts] = {
    "label off by one": {"target": lambda t: LINEAR["target"](jnp.roll(t, 1, -1))},
    "p - t where T p - t is right": {"mass": lambda t: 1.0},
    "missing 1/N": {"count": lambda u: 1.0},
    "1/N of all rows, not of the weights": {"count": lambda u: 1.0 * len(u)},
    "missing row weights": {"weights": lambda u: jnp.ones_like(u)[:, None]},
    "row weights squared": {"weights": lambda u: u[:, None] ** 2},
    "missing class weights": {"target": lambda t: jnp.where(MASK, t, 0.0)},
    "class weights before the label only": {
        "mass": lambda t: total(t / CLASS_WEIGHTS),
    },
    "missing label smoothing": {"smoothed": lambda t: t},
    "smoothing over masked classes": {"smoothed": lambda t: (1 - SMOOTHING) * t + SMOOTHING / 3},
    "missing z-loss": {"z_loss": lambda s, p: 0.0},
    "z-loss without its 2": {"z_loss": lambda s, p: Z_LOSS * s * p},
    "z-loss of p alone": {"z_loss": lambda s, p: 2 * Z_LOSS * p},
    "missing derivative of the softcap": {"cap": lambda x: 1.0},
    "softcap derivative not squared": {"cap": lambda x: 1 - jnp.abs(x / CAP)},
    "mask ignored": {"p": lambda x: oracle.softmax(x, xp=jnp)},
    "mask ignored by the targets": {"target": lambda t: t * CLASS_WEIGHTS},
    "sign": {"g": lambda g: -g},
    "zero at the largest gradient": {
        "g": lambda g: jnp.where(jnp.abs(g) == jnp.max(jnp.abs(g)), 0.0, g)
    },
    "gradient of another row": {"g": lambda g: jnp.roll(g, 1, 0)},
    "gradient constant at order 2": {"g": jax.lax.stop_gradient},
    "missing bias in the JVP": {"logits_dot": lambda f, w, fd, wd, bd: fd @ w + f @ wd},
    "missing features in the JVP": {"logits_dot": lambda f, w, fd, wd, bd: f @ wd + bd},
    "missing kernel in the JVP": {"logits_dot": lambda f, w, fd, wd, bd: fd @ w + bd},
    "missing bias in the VJP": {"b_bar": lambda g: jnp.zeros(3)},
    "bias of the first row": {"b_bar": lambda g: g[0]},
    "transposed kernel": {"f_bar": lambda g, f, w: g @ w},
    "transposed gradient of the kernel": {"w_bar": lambda g, f, w: (f.T @ g).T},
    "kernel constant at order 2": {"f_bar": lambda g, f, w: g @ jax.lax.stop_gradient(w).T},
    "features constant at order 2": {"w_bar": lambda g, f, w: jax.lax.stop_gradient(f).T @ g},
    "targets without smoothing": {
        "target_bar": lambda x, s: CLASS_WEIGHTS * jnp.where(MASK, s - x, 0.0)
    },
    "targets have no derivative": {"target_bar": lambda x, s: 0 * x},
    "weights forget their sum": {"weights_bar": lambda losses, loss, u: losses / jnp.sum(u)},
}


def linear(parts: Parts) -> custom_rules:
    """The linear loss and its rules, in parts."""
    of = LINEAR | parts
    loss = custom_rules(partial(loss_oracle, xp=jnp))

    def fwd(f: Any, w: Any, b: Any, t: Any, u: Any) -> Any:
        x = of["logits"](f, w, b)
        p, s = of["p"](x), of["s"](x)
        target = of["target"](of["smoothed"](t))
        g = (of["mass"](target) * p - target + of["z_loss"](s, p)) * of["cap"](x)
        g = of["g"](of["weights"](u) * g / of["count"](u))
        t_bar = u[:, None] * of["target_bar"](x, s) / jnp.sum(u)
        value = loss(f, w, b, t, u)
        losses = textbook_linear(f, w, t, b, reduction="none", xp=jnp)
        return value, (f, w, g, t_bar, of["weights_bar"](losses, value, u))

    def jvp(saved: Any, f_dot: Any, w_dot: Any, b_dot: Any, t_dot: Any, u_dot: Any) -> Any:
        f, w, g, t_bar, u_bar = saved
        z_dot = of["logits_dot"](f, w, f_dot, w_dot, b_dot)
        return jnp.sum(g * z_dot) + jnp.sum(t_bar * t_dot) + jnp.sum(u_bar * u_dot)

    def vjp(saved: Any, bar: Any) -> Any:
        f, w, g, t_bar, u_bar = saved
        g = g * bar
        return of["f_bar"](g, f, w), of["w_bar"](g, f, w), of["b_bar"](g), t_bar * bar, u_bar * bar

    loss.defrules(fwd, jvp, vjp)
    return loss


POINT = (
    RNG.normal(size=(2, 3)),
    RNG.normal(size=(3, 3)),
    RNG.normal(size=3),
    RNG.uniform(size=(2, 3)),  # targets that do not sum to 1
    np.array([0.75, 2.0]),
)


def test_the_right_linear_rules_survive() -> None:
    assert survives(linear({}), *POINT, oracle=loss_oracle)


@pytest.mark.parametrize("mutant", LINEAR_MUTANTS)
def test_a_wrong_linear_rule_is_killed(mutant: str) -> None:
    assert not survives(linear(LINEAR_MUTANTS[mutant]), *POINT, oracle=loss_oracle)
