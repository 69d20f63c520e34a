"""Softmax regression as scikit-learn estimators; needs the ``train`` extra.

`SoftmaxClassifier` takes the place of `sklearn.linear_model.LogisticRegression`, and
`SoftmaxClassifierCV` that of `LogisticRegressionCV`: arguments that mean the same have the same
names and defaults, and the objective is the same number.
"""

from .classifier import SoftmaxClassifier as SoftmaxClassifier
from .cross_validated import SoftmaxClassifierCV as SoftmaxClassifierCV
