"""``jaxsoftmax evaluate``."""

from __future__ import annotations

from .arguments import Run


def evaluate(run_folder: Run) -> None:
    """Test the model of a run again, on its test rows.

    Args:
      run_folder: The folder that train left.
    """
    from jaxsoftmax.training import trainer
    from jaxsoftmax.training.report import progress

    test = trainer.evaluate(run_folder)
    print(progress.scores_line(test.rows, test.loss, test.accuracy))
