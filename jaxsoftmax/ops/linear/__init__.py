"""Losses of linear classifiers, which never hold the logits of more than a block of rows."""
