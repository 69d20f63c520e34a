"""Softmax, its losses and the linear classifier loss for JAX, with JVP and VJP written by hand."""

from .autodiff import custom_rules as custom_rules
from .native import kernels as kernels
from .ops import LossStats as LossStats
from .ops import cross_entropy as cross_entropy
from .ops import linear_log_softmax as linear_log_softmax
from .ops import linear_softmax_cross_entropy as linear_softmax_cross_entropy
from .ops import linear_softmax_js_divergence as linear_softmax_js_divergence
from .ops import linear_softmax_kl_divergence as linear_softmax_kl_divergence
from .ops import linear_softmax_stats as linear_softmax_stats
from .ops import linear_top_k as linear_top_k
from .ops import log_softmax as log_softmax
from .ops import logsumexp as logsumexp
from .ops import softmax as softmax
from .ops import softmax_cross_entropy as softmax_cross_entropy
from .ops import (
    softmax_cross_entropy_with_integer_labels as softmax_cross_entropy_with_integer_labels,
)
from .ops import softmax_entropy as softmax_entropy
from .ops import softmax_jacobian as softmax_jacobian
from .ops import sparsemax as sparsemax
from .ops import sparsemax_loss as sparsemax_loss
