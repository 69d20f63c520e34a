"""Training a softmax classifier from a config; needs the ``train`` extra."""
