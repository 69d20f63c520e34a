"""A scikit-learn pipeline: preprocessing and `LogisticRegression`, fitted to be this model.

pipeline = joblib.load("model.joblib")
pipeline.predict_proba(frame)
"""

from __future__ import annotations

import io
from typing import Any

import joblib
import numpy as np
from sklearn.compose import ColumnTransformer
from sklearn.impute import MissingIndicator, SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, Normalizer, OneHotEncoder, StandardScaler

from jaxsoftmax.training.data.columns import MISSING, Vector
from jaxsoftmax.training.errors import InputError
from jaxsoftmax.training.model import Classifier

from . import Exported
from .columns import Floats, Groups, groups


def write(model: Classifier) -> Exported:
    """The pipeline, as `joblib` keeps it."""
    found, out = groups(model), io.BytesIO()
    joblib.dump(pipeline(model), out)
    takes = (
        "a matrix" if _only_vector(found) else "a pandas data frame with the columns of training"
    )
    notes = [f"joblib.load(…) gives a fitted Pipeline, whose predict_proba takes {takes}"]
    if found.categories:
        words = ", ".join(map(repr, model.columns.missing_values))
        notes.append(
            f"the pipeline takes None and NaN for missing; of the texts {words} the reader of the "
            f"table must make these"
        )
    return Exported(out.getvalue(), tuple(notes))


def pipeline(model: Classifier) -> Pipeline:
    """A fitted `Pipeline` that predicts what the model does, in float64."""
    found = groups(model)
    steps: list[tuple[str, Any]] = []
    if _only_vector(found):
        steps.append(("scale", _scaler(found.vectors[0])))
    else:
        steps.append(("columns", _columns(found)))
    if model.columns.unit_length:
        steps.append(("length", Normalizer()))
    steps.append(("softmax", _classifier(found, model.classes)))
    return Pipeline(steps)


def _only_vector(found: Groups) -> bool:
    return not found.numbers and not found.categories and len(found.vectors) == 1


def _columns(found: Groups) -> ColumnTransformer:
    """Fitted to two rows that have the statistics of training, which are then put in exactly."""
    try:
        import pandas as pd
    except ImportError:
        raise InputError(
            "--format sklearn needs pandas for a model of named columns, and it is not installed; "
            "install it with: pip install pandas"
        ) from None
    rows: dict[str, Any] = {c.name: [c.mean - c.scale, c.mean + c.scale] for c in found.numbers}
    rows |= {c.name: [c.values[0], c.values[-1]] for c in found.categories}
    for vector in found.vectors:
        mean, scale = np.array(vector.mean), np.array(vector.scale)
        rows[vector.name] = [mean - scale, mean + scale]
    numbers = [column.name for column in found.numbers]
    texts = [column.name for column in found.categories]
    parts: list[tuple[str, Any, Any]] = []
    if numbers:
        steps = [("fill", SimpleImputer()), ("scale", StandardScaler())]
        parts.append(("numbers", Pipeline(steps), numbers))
    if found.indicators:
        indicated = [numbers[i] for i in found.indicators]
        parts.append(("missing", MissingIndicator(features="all"), indicated))
    if texts:
        values = [np.array(column.values, object) for column in found.categories]
        fill = SimpleImputer(strategy="constant", fill_value=MISSING)
        encode = OneHotEncoder(categories=values, handle_unknown="ignore", sparse_output=False)
        parts.append(("text", Pipeline([("fill", fill), ("encode", encode)]), texts))
    for vector in found.vectors:
        steps = [("stack", FunctionTransformer(np.stack)), ("scale", StandardScaler())]
        parts.append((vector.name, Pipeline(steps), vector.name))
    made = ColumnTransformer(parts).fit(pd.DataFrame(rows))
    if numbers:
        fitted = made.named_transformers_["numbers"]
        fitted["fill"].statistics_ = found.mean
        _put(fitted["scale"], found.mean, found.scale)
    for vector in found.vectors:
        fitted = made.named_transformers_[vector.name]
        _put(fitted["scale"], np.array(vector.mean), np.array(vector.scale))
    return made


def _scaler(vector: Vector) -> StandardScaler:
    mean, scale = np.array(vector.mean), np.array(vector.scale)
    scaler = StandardScaler().fit(np.stack([mean - scale, mean + scale]))
    return _put(scaler, mean, scale)


def _put(scaler: StandardScaler, mean: Floats, scale: Floats) -> StandardScaler:
    scaler.mean_, scaler.scale_, scaler.var_ = mean, scale, scale**2
    return scaler


def _classifier(found: Groups, classes: tuple[str, ...]) -> LogisticRegression:
    kernel, bias = found.kernel.astype(np.float64).T, found.bias.astype(np.float64)
    if len(classes) == 2:
        kernel, bias = kernel[1:] - kernel[:1], bias[1:] - bias[:1]
    made = LogisticRegression()
    made.classes_, made.n_features_in_ = np.array(classes, object), kernel.shape[1]
    made.coef_, made.intercept_, made.n_iter_ = kernel, bias, np.array([0], np.int32)
    return made
