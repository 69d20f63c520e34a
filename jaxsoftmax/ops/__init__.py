"""The operations: cards, rules and public functions, one operation a file."""

from .cross_entropy import cross_entropy as cross_entropy
from .cross_entropy import softmax_cross_entropy as softmax_cross_entropy
from .cross_entropy import (
    softmax_cross_entropy_with_integer_labels as softmax_cross_entropy_with_integer_labels,
)
from .linear import LossStats as LossStats
from .linear import linear_log_softmax as linear_log_softmax
from .linear import linear_softmax_cross_entropy as linear_softmax_cross_entropy
from .linear import linear_softmax_js_divergence as linear_softmax_js_divergence
from .linear import linear_softmax_kl_divergence as linear_softmax_kl_divergence
from .linear import linear_softmax_row_loss as linear_softmax_row_loss
from .linear import linear_softmax_stats as linear_softmax_stats
from .linear import linear_top_k as linear_top_k
from .log_softmax import log_softmax as log_softmax
from .logsumexp import logsumexp as logsumexp
from .softmax import softmax as softmax
from .softmax import softmax_jacobian as softmax_jacobian
from .softmax_entropy import softmax_entropy as softmax_entropy
from .sparsemax import sparsemax as sparsemax
from .sparsemax import sparsemax_loss as sparsemax_loss
