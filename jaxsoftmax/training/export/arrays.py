"""Safetensors: one file of arrays, whose header names features and classes."""

from __future__ import annotations

import json

import numpy as np
import safetensors.numpy

from jaxsoftmax.training.model import Classifier
from jaxsoftmax.training.model.units import affine

from . import Exported


def write(model: Classifier) -> Exported:
    """``kernel (D, C)``, ``bias (C,)``, and ``mean`` and ``scale (D,)`` in float64."""
    kernel = np.asarray(model.params.kernel)
    bias = model.params.bias
    mean, scale = affine(model.columns)
    arrays = {
        "kernel": kernel,
        "bias": np.zeros(kernel.shape[1], kernel.dtype) if bias is None else np.asarray(bias),
        "mean": mean,
        "scale": scale,
    }
    header = {
        "features": json.dumps(model.columns.features, ensure_ascii=False),
        "classes": json.dumps(model.classes, ensure_ascii=False),
        "unit_length": json.dumps(model.columns.unit_length),
    }
    length = ", scaled to length 1" if model.columns.unit_length else ""
    note = f"logits are ((features - mean) / scale){length} @ kernel + bias"
    code = (
        "safetensors holds arrays and no code, so that columns are not read by it: one-hot "
        "features are named column=value in the header"
    )
    return Exported(safetensors.numpy.save(arrays, header), (note, code))
