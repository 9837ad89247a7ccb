"""eval.json: what `--mode=eval` measured, of a run or of several averaged."""

import pathlib
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from alexnet_jax.runtime.errors import UserError
from alexnet_jax.runtime.files import read_file

EVAL_JSON = 'eval.json'
ErrorRate = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0, lt=2**63)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True)


class ViewErrors(_Section):
    """Mean loss in nats, errors from 0 to 1, and the number of patches of an image whose predictions were averaged."""

    loss: float | None = None
    top1_error: ErrorRate
    top5_error: ErrorRate
    patches: Count | None = None

    def described(self, views: str) -> str:
        """The kind of view for the user: 'center', 'ten', or 'five, not mirrored'."""
        return 'five, not mirrored' if self.patches == 5 else views


class EvaluatedRun(_Section):
    """A run of an ensemble: its directory, the step of its checkpoint, and its own errors by kind of view."""

    workdir: str
    step: Count
    views: dict[str, ViewErrors]


class Evaluation(_Section):
    """The content of eval.json.

    Attributes:
      step, epoch: of the checkpoint; None for an ensemble.
      source: of the images, as `config.data.source` names it.
      split: of the data set.
      examples: images in it, each counted once.
      classes: of the data set.
      views: errors by kind of view, 'center' or 'ten'; those of the average for an ensemble.
      runs: of an ensemble.
    """

    step: Count | None = None
    epoch: Count | None = None
    source: str
    split: str
    examples: Count
    classes: Count | None = None
    views: dict[str, ViewErrors]
    runs: tuple[EvaluatedRun, ...] = ()

    def results(self, name: str) -> list[tuple[str, str, ViewErrors]]:
        """All errors with what they are of and the kind of view for the user, those of `name`, the whole, last."""
        what = f'{len(self.runs)} runs averaged' if self.runs else f'{name}, step {self.step} (epoch {self.epoch})'
        each = [(f'{run.workdir}, step {run.step}', run.views) for run in self.runs]
        return [
            (of, errors.described(views), errors)
            for of, by_view in [*each, (what, self.views)]
            for views, errors in by_view.items()
        ]


def read_evaluation(workdir: str | pathlib.Path) -> Evaluation | None:
    """Reads WORKDIR/eval.json; None where there is none.

    Raises:
      UserError: it is damaged, or the system refuses to read it.
    """
    path = pathlib.Path(workdir) / EVAL_JSON
    try:
        return Evaluation.model_validate_json(read_file(path))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError(f'{path} cannot be read: {error.strerror}.') from error
    except ValueError as error:
        why = error.errors()[0]['msg'] if isinstance(error, ValidationError) else error
        raise UserError(f'{path} is damaged ({why}); make it again with --mode=eval, or delete it.') from error
