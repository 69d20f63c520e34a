"""The estimators, against scikit-learn's own checks, its LogisticRegression and its tools."""

import pickle
import re

import numpy as np
import pytest
from scipy import sparse
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import get_scorer
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import estimator_checks_generator

from jaxsoftmax.sklearn import SoftmaxClassifier, SoftmaxClassifierCV
from jaxsoftmax.sklearn import classifier as classifier_module

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def table(rows=200, features=5, classes=3, seed=0, scale=1.0):
    """Rows whose classes overlap, so that the optimum is finite without a penalty."""
    random = np.random.default_rng(seed)
    X = random.normal(size=(rows, features)) * scale + random.normal(size=features) * 3
    logits = X @ random.normal(size=(features, classes)) / scale
    y = np.argmax(logits + random.gumbel(size=logits.shape) * 2, axis=1)
    y[:classes] = np.arange(classes)
    return X, y


@pytest.mark.once
@pytest.mark.default_modes  # Adam of optax promotes
@pytest.mark.parametrize("estimator", [SoftmaxClassifier(), SoftmaxClassifierCV(Cs=3)], ids=repr)
def test_every_check_of_scikit_learn_passes(estimator):
    failed = {}
    for instance, check in estimator_checks_generator(estimator):
        name = check.func.__name__ + str(check.keywords)
        try:
            check(instance)
        except Exception as error:  # noqa: BLE001 - all are told together
            failed[name] = repr(error)
    # The only one that may be left out asks for an array API that scipy does not offer by default.
    skipped = {name for name, error in failed.items() if "SCIPY_ARRAY_API" in error}
    assert {name: failed[name] for name in failed.keys() - skipped} == {}
    assert len(skipped) <= 1


@pytest.mark.parametrize("classes", [2, 3, 7])
@pytest.mark.parametrize("C", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_coefficients_are_those_of_logistic_regression(classes, C, fit_intercept):
    X, y = table(classes=classes, seed=classes)
    weights = np.random.default_rng(1).uniform(0, 3, len(y))
    options = {"C": C, "fit_intercept": fit_intercept, "class_weight": "balanced"}
    theirs = LogisticRegression(**options, tol=1e-10, solver="newton-cholesky")
    theirs.fit(X, y, weights)
    ours = SoftmaxClassifier(**options, tol=1e-10).fit(X, y, weights)
    np.testing.assert_allclose(ours.coef_, theirs.coef_, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), atol=1e-6)
    np.testing.assert_allclose(ours.predict_log_proba(X), theirs.predict_log_proba(X), rtol=1e-5)
    assert np.array_equal(ours.predict(X), theirs.predict(X))


@pytest.mark.parametrize("l1_ratio", [1.0, 0.4])
@pytest.mark.parametrize("classes", [2, 3])
def test_l1_and_elastic_net_have_the_objective_of_saga(l1_ratio, classes):
    X, y = table(classes=classes, seed=4)
    X = StandardScaler().fit_transform(X)
    theirs = LogisticRegression(
        C=0.1, l1_ratio=l1_ratio, solver="saga", tol=1e-10, max_iter=100_000, random_state=0
    ).fit(X, y)
    ours = SoftmaxClassifier(C=0.1, l1_ratio=l1_ratio, tol=1e-9, max_iter=5000).fit(X, y)
    if classes == 2:  # with more, the optimum of L1 need not be one point in this parametrisation
        np.testing.assert_allclose(ours.coef_, theirs.coef_, atol=1e-5)

    def objective(model):
        chosen = model.predict_log_proba(X)[np.arange(len(y)), y]
        square, absolute = np.sum(model.coef_**2), np.sum(np.abs(model.coef_))
        return -0.1 * chosen.sum() + (1 - l1_ratio) / 2 * square + l1_ratio * absolute

    assert objective(ours) <= objective(theirs) * (1 + 1e-7)


def test_float32_stays_float32_and_float64_can_be_asked_for():
    X, y = table()
    assert SoftmaxClassifier().fit(X.astype(np.float32), y).coef_.dtype == np.float32
    assert SoftmaxClassifier().fit(X, y).coef_.dtype == np.float64
    assert SoftmaxClassifier(dtype="float32").fit(X, y).coef_.dtype == np.float32
    assert SoftmaxClassifier(dtype="float64").fit(X.astype(np.float32), y).coef_.dtype == np.float64


def test_large_offsets_and_scales_of_features_lose_nothing():
    X, y = table(seed=2)
    plain = SoftmaxClassifier(C=1e6, tol=1e-9).fit(X, y)
    moved = SoftmaxClassifier(C=1e6, tol=1e-9).fit(X * 1e4 + 5e6, y)
    np.testing.assert_allclose(moved.coef_ * 1e4, plain.coef_, rtol=1e-3)
    assert np.array_equal(moved.predict(X * 1e4 + 5e6), plain.predict(X))


def test_sparse_rows_are_the_same_rows():
    X, y = table(seed=3)
    X[np.abs(X) < 1] = 0
    dense = SoftmaxClassifier(tol=1e-8).fit(X, y)
    thin = SoftmaxClassifier(tol=1e-8).fit(sparse.csr_array(X), y)
    np.testing.assert_allclose(thin.coef_, dense.coef_, rtol=1e-10)
    np.testing.assert_allclose(thin.predict_proba(sparse.csr_array(X)), dense.predict_proba(X))


@pytest.mark.once
def test_it_works_in_the_tools_of_scikit_learn():
    X, y = table(rows=300, seed=5)
    names = np.array(["no", "maybe", "yes"])[y]
    pipeline = make_pipeline(StandardScaler(), SoftmaxClassifier())
    found = GridSearchCV(pipeline, {"softmaxclassifier__C": [0.01, 1.0]}, cv=3).fit(X, names)
    assert set(found.predict(X)) <= {"no", "maybe", "yes"}
    calibrated = CalibratedClassifierCV(SoftmaxClassifier(), cv=3).fit(X, names)
    np.testing.assert_allclose(calibrated.predict_proba(X).sum(axis=1), 1)
    alone = cross_val_score(SoftmaxClassifier(), X, y, cv=4)
    together = cross_val_score(SoftmaxClassifier(), X, y, cv=4, n_jobs=2)
    theirs = cross_val_score(LogisticRegression(tol=1e-8), X, y, cv=4)
    np.testing.assert_array_equal(alone, together)
    np.testing.assert_allclose(alone, theirs, atol=0.02)


def test_folds_and_values_of_c_share_one_program():
    X, y = table(rows=317, features=6, seed=6)
    classifier_module._solve.clear_cache()
    cross_val_score(SoftmaxClassifier(), X, y, cv=5)
    for C in (0.1, 10.0):
        SoftmaxClassifier(C=C).fit(X[:250], y[:250])
    assert classifier_module._solve._cache_size() == 1


@pytest.mark.default_modes  # Adam of optax promotes
def test_pickles_and_clones():
    X, y = table(seed=7)
    fitted = SoftmaxClassifier(C=0.3).fit(X, y).partial_fit(X, y)
    copy = pickle.loads(pickle.dumps(fitted))  # noqa: S301 - its own
    np.testing.assert_array_equal(copy.predict_proba(X), fitted.predict_proba(X))
    a, b = copy.partial_fit(X, y), fitted.partial_fit(X, y)
    np.testing.assert_array_equal(a.coef_, b.coef_)
    assert clone(fitted).get_params() == fitted.get_params()


@pytest.mark.default_modes  # Adam of optax promotes
def test_partial_fit_comes_near_the_optimum():
    X, y = table(rows=512, seed=8)
    X = StandardScaler().fit_transform(X)
    steps = SoftmaxClassifier(learning_rate=0.02, batch_size=64)
    for _ in range(60):
        steps.partial_fit(X, y, classes=[0, 1, 2])
    best = SoftmaxClassifier(C=1e3).fit(X, y)
    assert abs(steps.score(X, y) - best.score(X, y)) < 0.03
    with pytest.raises(ValueError, match="classes must be those of the first call"):
        steps.partial_fit(X, y, classes=[0, 1])
    with pytest.raises(ValueError, match="not in classes"):
        steps.partial_fit(X, y + 1)


def test_warm_start_begins_at_the_last_solution():
    X, y = table(seed=9)
    warm = SoftmaxClassifier(warm_start=True, tol=1e-6).fit(X, y)
    assert warm.n_iter_[0] > 1
    assert warm.fit(X, y).n_iter_[0] == 0


def test_it_says_when_it_has_not_converged():
    X, y = table(seed=10)
    with pytest.warns(ConvergenceWarning, match="limit of iterations"):
        SoftmaxClassifier(max_iter=1, tol=1e-12).fit(X, y)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"C": 0.0}, "C must be a positive number, got 0.0"),
        *(
            ({name: value}, f"{name} must be .*, got {value!r}")
            for name in ("C", "tol", "l1_ratio", "max_iter", "batch_size", "learning_rate")
            for value in (None, "1", float("nan"), float("-inf"), True, [1.0])
        ),
        ({"max_iter": 1.5}, "max_iter must be a whole number above 0, got 1.5"),
        ({"batch_size": 0}, "batch_size must be a whole number"),
        ({"l1_ratio": 1.5}, "l1_ratio must be in [0, 1]"),
        ({"solver": "lbfgs"}, "solver must be 'auto', 'newton-cg' or 'fista', got 'lbfgs'"),
        ({"solver": "newton-cg", "l1_ratio": 0.5}, "is for L2 only"),
        ({"tol": -1.0}, "tol must be a number, 0 or above, got -1.0"),
        ({"dtype": "float16"}, "dtype must be"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(arguments, sentence):
    X, y = table()
    with pytest.raises(ValueError, match=re.escape(sentence).replace(r"\.\*", ".*")):
        SoftmaxClassifier(**arguments).fit(X, y)


@pytest.mark.parametrize(
    "cs", [0, -1, None, "abc", "10", [], [1.0, 0.0], [[1.0]], 1.5, True, [None]]
)
def test_values_of_c_that_make_no_sense_are_refused(cs):
    with pytest.raises(ValueError, match="Cs must be how many values"):
        SoftmaxClassifierCV(Cs=cs).fit(*table())


def test_cross_validation_solves_every_fold_to_the_optimum():
    X, y = table(rows=240, classes=3, seed=11)
    y[:60] = np.arange(60) % 3
    ours = SoftmaxClassifierCV(Cs=[10.0, 0.01, 1.0], cv=4, tol=1e-9).fit(X, y)
    for fold, (train, test) in enumerate(StratifiedKFold(4).split(X, y)):
        for number, C in enumerate([10.0, 0.01, 1.0]):
            theirs = LogisticRegression(C=C, tol=1e-10, solver="newton-cholesky")
            theirs.fit(X[train], y[train])
            np.testing.assert_allclose(
                ours.coefs_paths_[fold, number], theirs.coef_, rtol=1e-4, atol=1e-6
            )
            chosen = theirs.predict_log_proba(X[test])[np.arange(len(test)), y[test]]
            np.testing.assert_allclose(ours.scores_[fold, number], chosen.mean(), rtol=1e-5)
    assert ours.Cs_[ours.scores_.mean(axis=0).argmax()] == ours.C_
    final = LogisticRegression(C=ours.C_, tol=1e-10, solver="newton-cholesky").fit(X, y)
    np.testing.assert_allclose(ours.coef_, final.coef_, rtol=1e-5, atol=1e-7)


@pytest.mark.once
@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("name", ["accuracy", "neg_log_loss"])
def test_scores_by_name_are_those_of_scikit_learns_scorer(classes, name):
    X, y = table(rows=90, classes=classes, seed=13)
    wide = np.concatenate([X * 1e3, X], axis=1)  # some probabilities are 0
    for rows in (X, wide):
        named, called = (
            SoftmaxClassifierCV(Cs=[1e-3, 1e3], cv=3, scoring=scoring).fit(rows, y).scores_
            for scoring in (name, get_scorer(name))
        )
        np.testing.assert_allclose(named, called, rtol=1e-9)


def test_a_class_too_rare_for_every_fold_is_no_error():
    X, y = table(rows=100, classes=3, seed=12)
    y[y == 2] = 0
    y[0] = 2
    with pytest.warns(UserWarning, match="least populated class"):
        model = SoftmaxClassifierCV(Cs=3, cv=3).fit(X, y)
    assert model.predict_proba(X).shape == (100, 3)
    assert np.all(np.isfinite(model.scores_))


@pytest.mark.parametrize("of_class", [{0: -1.0, 1: 1.0}, {0: 0.0, 1: 0.0}, {0: np.inf, 1: 1.0}])
def test_weights_of_classes_that_make_no_sense_are_refused(of_class):
    X, y = np.arange(8.0)[:, np.newaxis], np.arange(8) % 2
    with pytest.raises(ValueError, match=r"^class_weight must be finite and not negative, and not"):
        SoftmaxClassifier(class_weight=of_class).fit(X, y)
