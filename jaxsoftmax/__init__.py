"""Softmax, its losses and the linear classifier loss for JAX, with JVP and VJP written by hand."""

from .autodiff import custom_rules as custom_rules
from .ops.cross_entropy import cross_entropy as cross_entropy
from .ops.cross_entropy import softmax_cross_entropy as softmax_cross_entropy
from .ops.cross_entropy import (
    softmax_cross_entropy_with_integer_labels as softmax_cross_entropy_with_integer_labels,
)
from .ops.linear.cross_entropy import linear_softmax_cross_entropy as linear_softmax_cross_entropy
from .ops.linear.divergence import linear_softmax_js_divergence as linear_softmax_js_divergence
from .ops.linear.divergence import linear_softmax_kl_divergence as linear_softmax_kl_divergence
from .ops.linear.log_softmax import linear_log_softmax as linear_log_softmax
from .ops.linear.softmax_stats import linear_softmax_stats as linear_softmax_stats
from .ops.linear.stats import LossStats as LossStats
from .ops.linear.top_k import linear_top_k as linear_top_k
from .ops.log_softmax import log_softmax as log_softmax
from .ops.logsumexp import logsumexp as logsumexp
from .ops.softmax import softmax as softmax
from .ops.softmax import softmax_jacobian as softmax_jacobian
from .ops.softmax_entropy import softmax_entropy as softmax_entropy
from .ops.sparsemax import sparsemax as sparsemax
from .ops.sparsemax import sparsemax_loss as sparsemax_loss
