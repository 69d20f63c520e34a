"""Losses of linear classifiers, which never hold the logits of more than a block of rows."""

from .cross_entropy import linear_softmax_cross_entropy as linear_softmax_cross_entropy
from .divergence import linear_softmax_js_divergence as linear_softmax_js_divergence
from .divergence import linear_softmax_kl_divergence as linear_softmax_kl_divergence
from .log_softmax import linear_log_softmax as linear_log_softmax
from .row_loss import linear_softmax_row_loss as linear_softmax_row_loss
from .softmax_stats import linear_softmax_stats as linear_softmax_stats
from .stats import LossStats as LossStats
from .top_k import linear_top_k as linear_top_k
