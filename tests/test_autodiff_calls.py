"""`custom_rules`: what may be passed and returned, and what is said when it is wrong."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsoftmax import custom_rules
from tests.trees import assert_same

# ------------------------------------------------------------------------------------------------
# A model with everything: pytrees, None, integers, options
# ------------------------------------------------------------------------------------------------


def _plain(params: Any, index: Any, mask: Any = None, *, power: int = 1) -> Any:
    scale = 1.0 if mask is None else mask.astype(params["w"].dtype)
    y = scale * params["w"][index] ** power * params["b"]
    return {"y": y, "order": jnp.argsort(y)}, jnp.sum(y)


model = custom_rules(_plain)


def _fwd(params, index, mask=None, *, power):
    return model(params, index, mask, power=power), (params, index, mask)


def _scale(params, mask):
    return jnp.ones((), params["w"].dtype) if mask is None else mask.astype(params["w"].dtype)


def _jvp(residuals, dots, index_dot, mask_dot=None, *, power):
    params, index, mask = residuals
    assert index_dot is None
    assert mask_dot is None
    w, b = params["w"][index], params["b"]
    slope = power * w ** (power - 1) * b * dots["w"][index]
    y_dot = _scale(params, mask) * (slope + w**power * dots["b"])
    return {"y": y_dot, "order": None}, jnp.sum(y_dot)


def _vjp(residuals, bars, *, power):
    params, index, mask = residuals
    (out_bar, total_bar), (w, b) = bars, (params["w"][index], params["b"])
    assert out_bar["order"] is None
    y_bar = _scale(params, mask) * (out_bar["y"] + total_bar)
    w_bar = jnp.zeros_like(params["w"]).at[index].add(y_bar * power * w ** (power - 1) * b)
    return {"w": w_bar, "b": jnp.sum(y_bar * w**power)}, None, None


model.defrules(_fwd, _jvp, _vjp)

PARAMS = {"w": np.array([0.5, -1.5, 2.5, 3.5]), "b": np.array(1.25)}
DOTS = {"w": np.array([1.0, -2.0, 0.5, 0.25]), "b": np.array(-0.75)}
INDEX = np.array([2, 0, 2])
MASK = np.array([True, False, True])


def _floats(out: Any) -> tuple[Any, Any]:
    return out[0]["y"], out[1]


@pytest.mark.parametrize("options", [{}, {"power": 3}], ids=["default", "power=3"])
@pytest.mark.parametrize("mask", [None, MASK], ids=["None", "bool"])
def test_pytrees_integers_none_and_options(mask: Any, options: dict[str, int], x64: None) -> None:
    def both(apply: Any) -> tuple[Any, Any]:
        given = {"power": 1} | options
        return apply(partial(model, **given)), apply(partial(_plain, **given))

    params, dots = jax.tree.map(jnp.asarray, (PARAMS, DOTS))
    value, expected = both(lambda f: f(params, INDEX, mask))
    assert_same(value, expected, rtol=1e-15)

    pushed, expected = both(lambda f: jax.jvp(lambda p: f(p, INDEX, mask), (params,), (dots,)))
    assert_same(_floats(pushed[1]), _floats(expected[1]), rtol=1e-14)
    assert pushed[1][0]["order"].dtype == jax.dtypes.float0

    def total(f: Any, params: Any) -> jax.Array:
        y, total = _floats(f(params, INDEX, mask))
        return jnp.sum(jnp.sin(y)) * total

    assert_same(*both(lambda f: jax.grad(partial(total, f))(params)), rtol=1e-14)
    assert_same(*both(lambda f: jax.jit(jax.hessian(partial(total, f)))(params)), rtol=1e-13)
    stack = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf + 1]), params)
    assert_same(*both(lambda f: jax.vmap(jax.grad(partial(total, f)))(stack)), rtol=1e-13)


def test_integers_in_and_out_have_float0_derivatives() -> None:
    params = jax.tree.map(jnp.asarray, PARAMS)
    out, pullback = jax.vjp(partial(model, power=1), params, INDEX, None)
    assert jnp.issubdtype(out[0]["order"].dtype, jnp.integer)
    nothing = np.zeros(out[0]["order"].shape, jax.dtypes.float0)
    bars = pullback(({"y": jnp.ones(3), "order": nothing}, jnp.ones(())))
    assert bars[1].dtype == jax.dtypes.float0
    assert bars[1].shape == INDEX.shape
    assert bars[2] is None
    reverse = jax.vjp(partial(model.custom_vjp, power=1), params, INDEX, None)[1]
    assert_same(reverse(({"y": jnp.ones(3), "order": nothing}, jnp.ones(())))[0], bars[0], rtol=0)

    gradient = jax.grad(lambda i: _floats(model(params, i, power=1))[1], allow_int=True)(INDEX)
    assert gradient.dtype == jax.dtypes.float0


def test_an_option_is_static() -> None:
    seen = []

    @custom_rules
    def named(x, *, mode="plain"):
        seen.append(mode)
        return x

    named.defrules(
        fwd=lambda x, mode: (named(x, mode=mode), ()),
        jvp=lambda _, x_dot, mode: 2 * x_dot if mode == "double" else x_dot,
        vjp=lambda _, y_bar, mode: (2 * y_bar if mode == "double" else y_bar,),
    )
    gradient = jax.jit(jax.grad(named), static_argnames="mode")
    assert gradient(1.0, mode="plain") == 1.0
    assert gradient(1.0, mode="double") == 2.0
    assert jax.jvp(partial(named, mode="double"), (1.0,), (1.0,))[1] == 2.0
    assert set(seen) == {"plain", "double"}


# ------------------------------------------------------------------------------------------------
# symbolic_zeros: the rules know what is differentiated
# ------------------------------------------------------------------------------------------------


def _telling_product() -> tuple[custom_rules, list[tuple[str, Any]]]:
    """(a, b), k, z -> a b z, and what its rules hear, when they are traced."""
    heard: list[tuple[str, Any]] = []
    product = custom_rules(lambda pair, k, z: pair[0] * pair[1] * z)

    def fwd(pair, k, z, *, perturbed):
        heard.append(("fwd", perturbed))
        return product(pair, k, z), (pair, z)

    def jvp(residuals, pair_dot, k_dot, z_dot, *, perturbed):
        heard.append(("jvp", perturbed))
        (a, b), z = residuals
        assert k_dot is None
        terms = zip((*pair_dot, z_dot), (b * z, a * z, a * b), strict=True)
        return sum(dot * rest for dot, rest in terms if dot is not None)

    def vjp(residuals, y_bar, *, perturbed):
        heard.append(("vjp", perturbed))
        (a, b), z = residuals
        pair_bar = (b * z * y_bar, a * z * y_bar) if any(perturbed[0]) else None
        return pair_bar, None, (a * b * y_bar if perturbed[2] else None)

    product.defrules(fwd, jvp, vjp, symbolic_zeros=True)
    return product, heard


A, B, K, Z = jnp.array(2.0), jnp.array(3.0), jnp.array(4), jnp.array(5.0)


@pytest.mark.parametrize("form", ["both rules", "custom_vjp"])
def test_the_rules_are_told_what_is_differentiated(form: str) -> None:
    """Of the pair a alone: its partner b has a zero tangent, and z none at all."""
    product, heard = _telling_product()
    f = product if form == "both rules" else product.custom_vjp
    assert jax.grad(lambda a: f((a, B), K, Z))(A) == 15.0
    assert ("fwd", ((True, False), False, False)) in heard
    assert heard[-1] == ("vjp", ((True, False), False, False))
    assert jax.grad(f, argnums=(0, 2))((A, B), K, Z) == ((15.0, 10.0), 6.0)
    assert heard[-1] == ("vjp", ((True, True), False, True))


def test_the_jvp_is_told_what_is_differentiated() -> None:
    product, heard = _telling_product()
    assert jax.jvp(lambda z: product((A, B), K, z), (Z,), (Z,))[1] == 30.0
    assert {what for what in heard if what[0] == "jvp"} == {("jvp", ((False, False), False, True))}


def test_nothing_differentiated_asks_for_no_rule() -> None:
    def never(*_: Any) -> Any:
        raise AssertionError("a rule ran")

    f = custom_rules(lambda x: x)
    f.defrules(lambda x: (f(x), ()), never, never)
    assert f(1.0) == 1.0
    assert jax.grad(lambda x: x * f(jax.lax.stop_gradient(x)))(3.0) == 3.0
    assert jax.grad(lambda x: x * f.custom_vjp(jax.lax.stop_gradient(x)))(3.0) == 3.0


# ------------------------------------------------------------------------------------------------
# Names and errors
# ------------------------------------------------------------------------------------------------


def test_python_numbers() -> None:
    f = _rule()
    assert jax.jvp(f, (1.0,), (1.5,)) == (2.0, 3.0)
    assert jax.jvp(lambda x: jax.jvp(f, (x,), (x,))[1], (1.0,), (1.5,)) == (2.0, 3.0)
    assert jax.jvp(jax.grad(lambda x: f(x) ** 2), (1.0,), (1.0,)) == (8.0, 8.0)
    assert jax.vjp(f, 1.0)[1](1.5) == (3.0,)
    assert jax.vjp(f.custom_vjp, 1.0)[1](1.5) == (3.0,)


def test_it_looks_like_the_function_it_wraps() -> None:
    def spiral(x):
        """Round and round."""
        return x

    for wrapped in (custom_rules(spiral), custom_rules(spiral).custom_vjp):
        assert wrapped.__name__ == "spiral"
        assert wrapped.__doc__ == "Round and round."
        assert wrapped.__wrapped__ is spiral


def test_a_partial_function_has_rules_too() -> None:
    power = custom_rules(partial(lambda n, x: x**n, 3))
    power.defrules(
        lambda x: (power(x), x), lambda x, x_dot: 3 * x**2 * x_dot, lambda x, b: (3 * x**2 * b,)
    )
    assert jax.grad(power)(2.0) == 12.0
    assert jax.jvp(power, (2.0,), (1.0,)) == (8.0, 12.0)
    assert power.__name__ == "partial"


def _rule(**rules: Any) -> custom_rules:
    """A rule for 2x, where `rules` are wrong."""

    def double(x, *, power=1):
        return 2 * x**power

    f = custom_rules(double)
    right = {
        "fwd": lambda x, **_: (f(x), ()),
        "jvp": lambda _, x_dot, **__: 2 * x_dot,
        "vjp": lambda _, y_bar, **__: (2 * y_bar,),
    }
    f.defrules(**(right | rules))
    return f


def custom_rules_of(primal: Any) -> custom_rules:
    f = custom_rules(primal)
    f.defrules(lambda *_: (X, ()), lambda *_: X, lambda *_: (X,))
    return f


NO_RULES = custom_rules(lambda x: x)
X = jnp.ones(3)

MISTAKES = {
    "no rules": (
        lambda: NO_RULES(X),
        (
            "<lambda> has no rules yet. Call <lambda>.defrules(fwd, jvp, vjp) once, after its "
            "definition."
        ),
    ),
    "no rules, custom_vjp": (
        lambda: NO_RULES.custom_vjp(X),
        (
            "<lambda> has no rules yet. Call <lambda>.defrules(fwd, jvp, vjp) once, after its "
            "definition."
        ),
    ),
    "an array as option": (
        lambda: _rule()(X, power=X),
        (
            "double: keyword arguments are static options and must be hashable, got power of type "
            "ArrayImpl. Pass arrays as positional arguments."
        ),
    ),
    "a tracer as option": (
        lambda: jax.jit(lambda x: _rule()(X, power=x))(X),
        (
            "double: keyword arguments are static options and must be hashable, got power of type "
            "DynamicJaxprTracer. Pass arrays as positional arguments."
        ),
    ),
    "an option before the star": (
        lambda: custom_rules_of(lambda x, mode="plain": x)(X),
        (
            "<lambda>: arguments must be arrays, got 'plain'. Options stand after a star: "
            "def <lambda>(x, *, option)."
        ),
    ),
    "an argument too few": (
        lambda: _rule()(power=2),
        "double: missing a required argument: 'x'.",
    ),
    "a list as option": (
        lambda: _rule()(X, power=[1]),
        (
            "double: keyword arguments are static options and must be hashable, got power of type "
            "list. Pass arrays as positional arguments."
        ),
    ),
    "cotangents not in a tuple": (
        lambda: jax.vjp(_rule(vjp=lambda _, y_bar: [y_bar]), X)[1](X),
        (
            "double: vjp must return a tuple with a cotangent for each of the 1 positional "
            "arguments, got list. Write None where an argument has no derivative."
        ),
    ),
    "too many cotangents": (
        lambda: jax.vjp(_rule(vjp=lambda _, y_bar: (y_bar, y_bar)), X)[1](X),
        (
            "double: vjp must return a tuple with a cotangent for each of the 1 positional "
            "arguments, got a tuple of 2. Write None where an argument has no derivative."
        ),
    ),
    "a cotangent of the wrong shape": (
        lambda: jax.vjp(_rule(vjp=lambda _, y_bar: (y_bar.sum(),)), X)[1](X),
        (
            "double: vjp returned a cotangent of float32[] where float32[3] belongs. "
            "A derivative has the shape and dtype of what it is the derivative of."
        ),
    ),
    "a tangent of the wrong shape": (
        lambda: jax.jvp(_rule(jvp=lambda _, x_dot: x_dot.sum()), (X,), (X,)),
        (
            "double: jvp returned a tangent of float32[] where float32[3] belongs. "
            "A derivative has the shape and dtype of what it is the derivative of."
        ),
    ),
    "a tangent of the wrong dtype": (
        lambda: jax.jvp(_rule(jvp=lambda _, x_dot: x_dot.astype(jnp.bfloat16)), (X,), (X,)),
        (
            "double: jvp returned a tangent of bfloat16[3] where float32[3] belongs. "
            "A derivative has the shape and dtype of what it is the derivative of."
        ),
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_answered_by_a_sentence(mistake: str) -> None:
    make, sentence = MISTAKES[mistake]
    with pytest.raises(TypeError) as error:
        make()
    assert str(error.value).split("\n")[0] == sentence
