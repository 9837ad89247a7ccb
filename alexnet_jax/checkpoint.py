"""Checkpoints with Orbax: the newest few, and the best by validation error."""

import dataclasses
import logging
import pathlib
from typing import Any

import jax
import orbax.checkpoint as ocp
from jax.sharding import Mesh

from alexnet_jax.errors import UserError
from alexnet_jax.optimizer import RateControl
from alexnet_jax.step import TrainState, state_sharding


@dataclasses.dataclass(frozen=True)
class Progress:
    """Where a run stands, besides the arrays.

    Attributes:
      step: updates made so far; it is the position in the data as well (see `pipeline.py`).
      epoch: epochs completed and validated.
      control: the learning rate and what decides when it changes.
    """

    step: int
    epoch: int
    control: RateControl


class Checkpoints:
    """The checkpoints of a run, in WORKDIR/checkpoints/STEP."""

    def __init__(self, workdir: str | pathlib.Path, *, keep: int = 3, read_only: bool = False) -> None:
        """Opens the directory, and makes it unless `read_only`.

        Args:
          workdir: of the run.
          keep: how many of the newest checkpoints stay; the best one stays besides.
          read_only: whether to leave the directory untouched.
        """
        for name in ('absl', 'orbax'):  # Orbax logs each save at level INFO and warns of what is by design here
            logging.getLogger(name).setLevel(logging.ERROR)
        self.directory = pathlib.Path(workdir).absolute() / 'checkpoints'
        policies = ocp.checkpoint_managers
        best = policies.BestN(n=1, get_metric_fn=_error, reverse=True, keep_checkpoints_without_metrics=False)
        options = ocp.CheckpointManagerOptions(
            preservation_policy=policies.AnyPreservationPolicy([policies.LatestN(keep), best]),
            best_fn=_error,
            best_mode='min',
            create=not read_only,
            read_only=read_only,
            cleanup_tmp_directories=not read_only,
        )
        handlers = {'state': ocp.StandardCheckpointHandler(), 'progress': ocp.JsonCheckpointHandler()}
        self._manager = ocp.CheckpointManager(self.directory, item_handlers=handlers, options=options)

    def steps(self) -> list[int]:
        """Steps of the checkpoints that are there, ascending."""
        return sorted(self._manager.all_steps())

    def best(self) -> int | None:
        """Step of the checkpoint with the lowest validation error; None where none was validated."""
        return self._manager.best_step()

    def find(self, which: str) -> int:
        """The step of a checkpoint by name.

        Args:
          which: 'newest', 'best' (by validation error), or a step.

        Raises:
          UserError: there is no such checkpoint.
        """
        steps = self.steps()
        if not steps:
            raise UserError(f'{self.directory} holds no checkpoint; train first, or name another --workdir.')
        known = {'newest': steps[-1], 'best': self.best(), **{str(step): step for step in steps}}
        if known.get(which) is None:
            raise UserError(
                f'--checkpoint={which}: {self.directory} has none; take newest, best, or one of '
                f'{", ".join(map(str, steps))}.'
            )
        return known[which]

    def save(self, state: TrainState, progress: Progress, top1_error: float | None) -> None:
        """Saves in the background; the previous save is awaited first.

        Args:
          state: the arrays.
          progress: everything else.
          top1_error: validation error of this very state, where it has been measured.
        """
        metrics = None if top1_error is None else {'top1_error': top1_error}
        args = ocp.args.Composite(
            state=ocp.args.StandardSave(state), progress=ocp.args.JsonSave(dataclasses.asdict(progress))
        )
        self._manager.save(progress.step, args=args, metrics=metrics, force=True)

    def restore(self, step: int, like: TrainState, mesh: Mesh) -> tuple[TrainState, Progress]:
        """Reads a checkpoint onto a mesh, which need not be the one that wrote it.

        Args:
          step: one of `steps()`.
          like: shapes of the state that is expected, as `jax.eval_shape` gives them.
          mesh: the devices to restore to.

        Raises:
          UserError: the checkpoint is of another network; the first parameter that differs is named.
        """
        self._check_same_network(step, like)
        target = jax.tree.map(
            lambda x, where: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where), like, state_sharding(like, mesh)
        )
        restored = self._manager.restore(
            step, args=ocp.args.Composite(state=ocp.args.StandardRestore(target), progress=ocp.args.JsonRestore())
        )
        return restored.state, _progress(restored.progress)

    def _check_same_network(self, step: int, shapes: TrainState) -> None:
        found = self._manager.item_metadata(step).state
        found = {
            _path(path): tuple(leaf.shape) for path, leaf in jax.tree_util.tree_leaves_with_path(found['parameters'])
        }
        wanted = {_path(path): leaf.shape for path, leaf in jax.tree_util.tree_leaves_with_path(shapes.parameters)}
        for name in [*wanted, *found]:
            if found.get(name) != wanted.get(name):
                there, here = (str(list(x[name])) if name in x else 'does not exist' for x in (found, wanted))
                raise UserError(
                    f'The checkpoint {self.directory / str(step)} is of another network: the parameter {name} '
                    f'{_is(there)} in the checkpoint and {_is(here)} in the config. '
                    'Give the config that the run was made with (see config.json in its workdir), or another --workdir.'
                )

    def wait(self) -> None:
        """Returns when all saves are on disk."""
        self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits for saves and lets go of the directory."""
        self._manager.close()


def _error(metrics: dict[str, float]) -> float:
    return metrics['top1_error']


def _path(path: tuple[Any, ...]) -> str:
    return '/'.join(str(getattr(part, 'key', getattr(part, 'name', part))) for part in path)


def _is(what: str) -> str:
    return what if what.startswith('does') else f'is {what}'


def _progress(fields: dict[str, Any]) -> Progress:
    return Progress(fields['step'], fields['epoch'], RateControl(**fields['control']))
