"""The benchmark: where does a hand-written rule pay, and where not? See bench/README.md."""
