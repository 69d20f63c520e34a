"""KL in both directions and Jensen-Shannon, streamed, against the textbook's on dense logits."""

import functools

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P
from scipy import special

from jaxsoftmax import (
    linear_softmax_cross_entropy,
    linear_softmax_js_divergence,
    linear_softmax_kl_divergence,
)
from jaxsoftmax.ops.devices.classes import Here
from jaxsoftmax.ops.divergence import divergence
from jaxsoftmax.testing.rules.compile import jit as quick_jit
from tests.ops.devices import assert_close, mesh_of
from tests.ops.linear_row_values import weighted_sum

N, D, E, C = 8, 3, 4, 12
KINDS = {
    "forward": (linear_softmax_kl_divergence, {}),
    "reverse": (linear_softmax_kl_divergence, {"reverse": True}),
    "js": (linear_softmax_js_divergence, {"beta": 0.3}),
}
CAPS = {"logit_softcap": 2.0, "teacher_logit_softcap": 3.0}


def problem(dtype=jnp.float64):
    """Student, teacher, temperature, weights of the rows."""
    keys = jax.random.split(jax.random.key(4), 7)
    shapes = [(N, D), (D, C), (C,), (N, E), (E, C), (C,)]
    arrays = (jax.random.normal(k, s, dtype) for k, s in zip(keys, shapes, strict=False))
    return (*arrays, jnp.asarray(1.7, dtype), jax.random.uniform(keys[6], (N,), dtype))


def ours(kind, f, w, b, g, v, c, t, u, **options):
    function, chosen = KINDS[kind]
    return function(
        f,
        w,
        g,
        v,
        b,
        c,
        temperature=t,
        weights=u,
        block_size=4,
        reduction="none",
        **chosen,
        **options,
    )


def textbook(kind, f, w, b, g, v, c, t, u, *, where=None, **caps):
    def logits(f, w, b, cap):
        z = f @ w + b[None, :]
        z = (z if cap is None else cap * jnp.tanh(z / cap)) / t
        return z if where is None else jnp.where(where, z, -1e30)

    log_p = jax.nn.log_softmax(logits(f, w, b, caps.get("logit_softcap")))
    log_q = jax.nn.log_softmax(logits(g, v, c, caps.get("teacher_logit_softcap")))
    if kind == "reverse":
        log_p, log_q = log_q, log_p
    if kind != "js":
        return u * t**2 * jnp.sum(jnp.exp(log_q) * (log_q - log_p), -1)
    log_m = jnp.logaddexp(jnp.log(0.3) + log_q, jnp.log(0.7) + log_p)
    of_q, of_p = (jnp.sum(jnp.exp(one) * (one - log_m), -1) for one in (log_q, log_p))
    return u * t**2 * (0.3 * of_q + 0.7 * of_p)


MODES = ("forward over reverse", "reverse over forward", "reverse over reverse")


def orders(f, names):
    """The values, JVP, VJP, and Hessian products in these modes."""

    def total(args):
        return weighted_sum(f(*args))

    def of(args):
        dots = jax.tree.map(jnp.sin, args)

        def along(args):
            return sum(jax.tree.leaves(jax.tree.map(jnp.vdot, jax.grad(total)(args), dots)))

        def slope(args):
            return jax.jvp(total, (args,), (dots,))[1]

        second = {
            "forward over reverse": lambda: jax.jvp(jax.grad(total), (args,), (dots,))[1],
            "reverse over forward": lambda: jax.grad(slope)(args),
            "reverse over reverse": lambda: jax.grad(along)(args),
        }
        return f(*args), slope(args), jax.grad(total)(args), [second[name]() for name in names]

    return quick_jit(of)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("kind", "options", "names"),
    [("forward", {}, MODES), ("reverse", CAPS, ()), ("js", CAPS, MODES)],
)
def test_every_order_in_every_mode(kind, options, names):
    args = problem()
    found = orders(functools.partial(ours, kind, **options), names)(args)
    expected = orders(functools.partial(textbook, kind, **options), names)(args)
    assert_close(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("kind", "shape", "names"),
    [("forward", (C,), ()), ("reverse", (N, C), ()), ("js", (N, C), MODES[:1])],
)
def test_masked_classes(kind, shape, names):
    where = jax.random.bernoulli(jax.random.key(1), 0.6, shape).at[..., 1].set(True)
    args, options = problem(), {"where": where}
    whole = {"where": jnp.broadcast_to(where, (N, C))}
    found = orders(functools.partial(ours, kind, **options), names)(args)
    expected = orders(functools.partial(textbook, kind, **whole), names)(args)
    assert_close(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("kind", "check_vma", "names"),
    [("reverse", False, ()), ("js", True, MODES[1:2])],
)
def test_classes_on_devices(kind, check_vma, names):
    args = problem()
    spread = jax.shard_map(
        functools.partial(ours, kind, axis_name="model"),
        mesh=mesh_of(AxisType.Auto, model=4),
        in_specs=(P(), P(None, "model"), P("model"), P(), P(None, "model"), P("model"), P(), P()),
        out_specs=P(),
        check_vma=check_vma,
    )
    found, one = orders(spread, names)(args), orders(functools.partial(ours, kind), names)(args)
    assert_close(found, one, rtol=1e-12, atol=1e-12)


# ------------------------------------------------------------------------------------------------
# With the cross-entropy to labels, from the same logits
# ------------------------------------------------------------------------------------------------

LABELS = {"one": np.arange(N) % C, "several": np.arange(3 * N).reshape(N, 3) * 5 % C}


def with_labels(kind, number, *args, **options):
    labels, t = LABELS[number], args[-1]
    return ours(kind, *args[:-1], labels=labels, label_weights=t, **options)


def textbook_with_labels(kind, number, f, w, b, g, v, c, temperature, u, t, *, cap=None):
    z = f @ w + b[None, :]
    log_p = jax.nn.log_softmax(z if cap is None else cap * jnp.tanh(z / cap))
    at_labels = jnp.take_along_axis(log_p, LABELS[number].reshape(N, -1), 1)
    losses = -jnp.sum(t.reshape(N, -1) * at_labels, 1)
    return textbook(kind, f, w, b, g, v, c, temperature, u, logit_softcap=cap) + u * losses


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("kind", "number", "options", "names", "devices"),
    [("forward", "one", {"cap": 2.0}, MODES[:1], 1), ("js", "several", {}, (), 4)],
)
def test_labels_as_well(kind, number, options, names, devices):
    """Each at its own temperature, with a weight that is 0 among the others'."""
    t = jnp.linspace(0, 1, LABELS[number].size).reshape(LABELS[number].shape)
    args, caps = (*problem(), t), {f"logit_soft{name}": cap for name, cap in options.items()}
    function = functools.partial(with_labels, kind, number, **caps)
    if devices > 1:
        of_classes = P(None, "model"), P("model")
        function = jax.shard_map(
            functools.partial(function, axis_name="model"),
            mesh=mesh_of(AxisType.Auto, model=devices),
            in_specs=(P(), *of_classes, P(), *of_classes, P(), P(), P()),
            out_specs=P(),
        )
    dense = functools.partial(textbook_with_labels, kind, number, **options)
    found, expected = orders(function, names)(args), orders(dense, names)(args)
    assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_labels_take_no_product_of_their_own():
    f, w, _, g, v, *_ = problem(jnp.float32)

    def products(labels):
        loss = jax.grad(functools.partial(linear_softmax_kl_divergence, labels=labels), (0, 1))
        return jax.jit(loss).lower(f, w, g, v).as_text().count("dot_general")

    assert products(LABELS["several"]) == products(None) == 4


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"label_weights": 0.5}, ValueError, r"label_weights go with labels"),
        ({"labels": np.zeros(N + 1, int)}, ValueError, r"shape \(8,\), or \(8, K\)"),
        (
            {"labels": np.ones((N, C))},
            TypeError,
            r"integers of the shape \(8,\) or \(8, K\)",
        ),
    ],
)
def test_labels_that_make_no_sense(given, error, message):
    f, w, _, g, v, *_ = problem(jnp.float32)
    with pytest.raises(error, match=f"^linear_softmax_kl_divergence: .*{message}"):
        linear_softmax_kl_divergence(f, w, g, v, **given)


def test_labels_have_the_temperature_1_beside_any_other():
    f, w, _, g, v, *_ = problem(jnp.float32)
    loss = functools.partial(linear_softmax_kl_divergence, f, w, g, v, temperature=3.0)
    added = loss(labels=LABELS["one"]) - loss()
    np.testing.assert_allclose(added, linear_softmax_cross_entropy(f, w, LABELS["one"]), rtol=1e-5)


def test_a_label_of_weight_0_need_be_no_class():
    f, w, _, g, v, *_ = problem(jnp.float32)
    labels, t = jnp.where(jnp.arange(N) % 2, LABELS["one"], -100), jnp.arange(N) % 2
    loss = functools.partial(linear_softmax_kl_divergence, f, w, g, v)
    given, other = (loss(labels=y, label_weights=t) for y in (labels, LABELS["one"]))
    assert given == other
    assert given > loss()
    assert np.isnan(loss(labels=labels))


# ------------------------------------------------------------------------------------------------
# The last bits
# ------------------------------------------------------------------------------------------------


def exactly(kind, x, y, beta=0.3):
    """The divergence of a row of logits of both, and its gradients, in 60 digits."""
    with mpmath.workdps(60):
        x, y = ([mpmath.mpf(float(z)) for z in row] for row in (x, y))
        log_p, log_q = ([z - mpmath.log(sum(map(mpmath.exp, r))) for z in r] for r in (x, y))
        p, q = ([mpmath.exp(z) for z in r] for r in (log_p, log_q))
        d = [b - a for a, b in zip(log_p, log_q, strict=True)]
        if kind == "forward":
            value = sum(b * z for b, z in zip(q, d, strict=True))
            g = [a - b for a, b in zip(p, q, strict=True)]
            h = [b * (z - value) for b, z in zip(q, d, strict=True)]
        else:
            beta = mpmath.mpf(beta)
            log_m = [mpmath.log(beta * b + (1 - beta) * a) for a, b in zip(p, q, strict=True)]
            a_p, a_q = ([z - m for z, m in zip(r, log_m, strict=True)] for r in (log_p, log_q))
            of_p, of_q = (
                sum(b * z for b, z in zip(r, a, strict=True)) for r, a in ((p, a_p), (q, a_q))
            )
            value = beta * of_q + (1 - beta) * of_p
            g = [(1 - beta) * b * (z - of_p) for b, z in zip(p, a_p, strict=True)]
            h = [beta * b * (z - of_q) for b, z in zip(q, a_q, strict=True)]
        return float(value), np.array(g, float), np.array(h, float)


@pytest.mark.parametrize("kind", ["forward", "js"])
@pytest.mark.parametrize("size", [1.0, 1e-2, 1e-4, 1e-6])
def test_near_zero_the_relative_accuracy_is_kept(kind, size):
    """Where Σ p'(ℓ' - ℓ) in float32 has no right digit, and is as often negative as not."""
    rng = np.random.default_rng(3)
    x = (3 * rng.normal(size=(4, C))).astype(np.float32)
    y = (x + size * rng.normal(size=x.shape)).astype(np.float32)
    unit = jnp.eye(C)
    function, chosen = KINDS[kind]

    def rows(x, y):
        return function(x, unit, y, unit, reduction="none", **chosen)

    values = jax.jit(rows)(x, y)
    g, h = jax.jit(jax.grad(lambda x, y: jnp.sum(rows(x, y)), (0, 1)))(x, y)
    for row in range(4):
        value, right, right_of_teacher = exactly(kind, x[row], y[row])
        np.testing.assert_allclose(values[row], value, rtol=4 * 2.0**-23)
        for ours, exact in ((g[row], right), (h[row], right_of_teacher)):
            # The identity is a product too: it rounds nothing.
            np.testing.assert_allclose(ours, exact, rtol=0, atol=8 * 2.0**-23 * np.abs(exact).max())


# The worst and the mean error in units of the last place, of 2, 100 and 3000 classes.
LAST_BITS = {
    None: {2: (5.0, 0.65), 100: (2.5, 0.38), 3000: (1.5, 0.36)},
    0.5: {2: (5.5, 0.9), 100: (3.0, 0.5), 3000: (1.7, 0.38)},
    0.1: {2: (7.0, 1.1), 100: (3.5, 0.55), 3000: (2.5, 0.45)},
    0.9: {2: (7.0, 1.1), 100: (3.5, 0.55), 3000: (2.5, 0.45)},
}


def errors_of(x: np.ndarray, y: np.ndarray, beta: float | None) -> np.ndarray:
    """Of the divergences of float32 rows, in units of the last place."""
    values = np.asarray(jax.jit(lambda x, y: divergence(x, y, classes=Here(1), beta=beta))(x, y))
    log_p, log_q = (special.log_softmax(z.astype(np.float64), 1) for z in (x, y))
    d = log_q - log_p
    if beta is None:
        exact = (np.exp(log_q) * (np.expm1(-d) + d)).sum(1)
    else:
        a, b = -np.log1p(beta * np.expm1(d)), -np.log1p((1 - beta) * np.expm1(-d))
        of_p, of_q = (np.exp(z) * (np.expm1(-c) + c) for z, c in ((log_p, a), (log_q, b)))
        exact = (beta * of_q + (1 - beta) * of_p).sum(1)
    return np.abs(values[:, 0] - exact) / np.spacing(exact.astype(np.float32))


@pytest.mark.parametrize("beta", LAST_BITS)
@pytest.mark.parametrize(("classes", "number"), [(2, 4096), (100, 512), (3000, 256)])
@pytest.mark.parametrize("size", [1e-3, 0.3, 3.0])
def test_the_last_bits_of_random_rows(classes, number, size, beta):
    """Of two classes no errors average out; d in one float32 leaves 5.5 of KL, 11.4 of JS."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(number, classes)).astype(np.float32)
    errors = errors_of(x, (x + size * rng.normal(size=x.shape)).astype(np.float32), beta)
    worst, mean = LAST_BITS[beta][classes]
    assert errors.max() < worst
    assert errors.mean() < mean


@pytest.mark.parametrize("beta", [0.1, 0.5])
@pytest.mark.parametrize(("classes", "number"), [(100, 512), (3000, 128)])
def test_the_last_bits_of_rows_far_apart(classes, number, beta):
    """Where a class is far likelier in one of the two, p exp(-a) rounds what the mixture is."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, number, classes)) * [[[30]], [[1]]]
    errors = errors_of(x.astype(np.float32), y.astype(np.float32), beta)
    assert errors.max() < 2
    assert errors.mean() < 0.37


@pytest.mark.parametrize("kind", ["forward", "js"])
def test_a_class_of_which_float32_holds_one_side_only(kind):
    """q of the class is below the smallest number that float32 holds whole, p is not."""
    x = np.array([-16.115116, -17.458174, 61.607143, -19.880037], np.float32)
    y = np.array([-9.935915, -12.9004, 60.308918, -28.264597], np.float32)
    beta = {"forward": None, "js": 0.3}[kind]
    value = jax.jit(lambda x, y: divergence(x, y, classes=Here(1), beta=beta))(x[None], y[None])
    np.testing.assert_allclose(value[0, 0], exactly(kind, x, y)[0], rtol=5 * 2.0**-23)


@pytest.mark.parametrize(("kind", "beta"), [("forward", None), ("js", 0.5), ("js", 0.999)])
def test_the_last_bits_of_confident_rows(kind, beta):
    """One class of x is up to 60 above the others; of y the same one, another, or none."""
    rng = np.random.default_rng(5)
    x, y = rng.normal(size=(2, 48, C))
    leads = np.linspace(5, 60, 48)
    x[:, 4] += leads
    y[::6, 4] += leads[::6]
    y[1::6, 7] += leads[::-6]
    x, y = x.astype(np.float32), y.astype(np.float32)
    unit, function = jnp.eye(C), KINDS[kind][0]
    chosen = {} if beta is None else {"beta": beta}

    def rows(x, y):
        return function(x, unit, y, unit, reduction="none", **chosen)

    values = jax.jit(rows)(x, y)
    bars = jax.jit(jax.grad(lambda x, y: jnp.sum(rows(x, y)), (0, 1)))(x, y)
    for row in range(48):
        value, *right = exactly(kind, x[row], y[row], beta)
        np.testing.assert_allclose(values[row], value, rtol=2.5 * 2.0**-23)
        for ours, exact in zip(bars, right, strict=True):
            # d - L of the teacher's is a difference of numbers as large as L.
            atol = 8 * 2.0**-23 * max(np.abs(exact).max(), value / 4)
            np.testing.assert_allclose(ours[row], exact, rtol=0, atol=atol)


@pytest.mark.parametrize("kind", KINDS)
def test_equal_sides_diverge_by_nothing(kind):
    f, w, b, *_ = problem(jnp.float32)
    function, chosen = KINDS[kind]

    def loss(f, w, g, v):
        return function(f, w, g, v, b, b, block_size=4, **chosen)

    value, bars = jax.jit(jax.value_and_grad(loss, (0, 1, 2, 3)))(f, w, f, w)
    assert value == 0
    assert all(not np.any(bar) for bar in bars)


@pytest.mark.parametrize("kind", KINDS)
def test_never_negative(kind):
    rng = np.random.default_rng(11)
    x = (10.0 ** rng.uniform(-3, 1.5, (400, 1)) * rng.normal(size=(400, C))).astype(np.float32)
    y = (x + 10.0 ** rng.uniform(-8, 1.5, (400, 1)) * rng.normal(size=x.shape)).astype(np.float32)
    function, chosen = KINDS[kind]
    unit = jnp.eye(C)
    values = np.asarray(function(x, unit, y, unit, reduction="none", **chosen))
    assert np.all(values >= 0)
    assert np.all(np.isfinite(values))


# ------------------------------------------------------------------------------------------------
# Classes that one side rules out
# ------------------------------------------------------------------------------------------------


def test_one_side_rules_a_class_out():
    f, w, b, g, v, c, *_ = problem(jnp.float32)
    out = b.at[2].set(-jnp.inf)

    def both(kind, b, c):
        function, chosen = KINDS[kind]
        return jax.jit(
            jax.value_and_grad(
                lambda f, w, g, v: function(f, w, g, v, b, c, block_size=4, **chosen), (0, 1, 2, 3)
            )
        )(f, w, g, v)

    for kind, student, teacher in (("forward", b, out), ("reverse", out, c), ("js", out, c)):
        value, bars = both(kind, student, teacher)
        assert np.isfinite(value)
        assert all(np.all(np.isfinite(bar)) for bar in bars)
    assert both("forward", out, c)[0] == jnp.inf
    assert both("reverse", b, out)[0] == jnp.inf
    assert 0 < both("js", b, out)[0] < 2


@pytest.mark.parametrize(
    ("beta", "message"), [(1.5, "between 0 and 1, got 1.5"), (-0.1, "got -0.1")]
)
def test_beta_out_of_range(beta, message):
    f, w, _, g, v, *_ = problem(jnp.float32)
    with pytest.raises(
        ValueError, match=f"^linear_softmax_js_divergence: beta must be .*{message}"
    ):
        linear_softmax_js_divergence(f, w, g, v, beta=beta)


@pytest.mark.usefixtures("x64")
def test_ends_of_beta_are_limits():
    """No special cases: L / β tends to KL(p' || p), L / (1 - β) to KL(p || p')."""
    f, w, _, g, v, *_ = problem()
    small = 1e-7
    for beta, reverse in ((small, False), (1 - small, True)):
        ours = linear_softmax_js_divergence(f, w, g, v, beta=beta) / small
        kl = linear_softmax_kl_divergence(f, w, g, v, reverse=reverse)
        np.testing.assert_allclose(ours, kl, rtol=1e-5)
    for beta in (0.0, 1.0):
        assert linear_softmax_js_divergence(f, w, g, v, beta=beta) == 0
