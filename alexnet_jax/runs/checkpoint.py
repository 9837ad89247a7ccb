"""Checkpoints with Orbax: the newest few, and the best by validation error; each is verified on restore."""

import math
import pathlib
import re
import shutil
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import orbax.checkpoint as ocp
from jax.sharding import Mesh

from alexnet_jax.model.alexnet import Parameters
from alexnet_jax.runs.checksums import examine, name_of
from alexnet_jax.runs.progress import Progress, from_fields, to_fields
from alexnet_jax.runtime.distributed import is_leader, leader_first, several
from alexnet_jax.runtime.errors import UserError, writing
from alexnet_jax.runtime.files import read_json
from alexnet_jax.runtime.formatting import format_bytes
from alexnet_jax.training.step import TrainState, state_sharding

State = TypeVar('State', TrainState, dict[str, Parameters])  # all of a checkpoint's arrays, or the parameters alone


class DamagedError(UserError):
    """A checkpoint cannot be read, or is not what was saved."""


class NotFiniteStateError(Exception):
    """A state holds infinities or NaN, and was not saved."""


class Checkpoints:
    """The checkpoints of a run, in WORKDIR/checkpoints/STEP."""

    def __init__(self, workdir: str | pathlib.Path, *, keep: int = 3, read_only: bool = False) -> None:
        """Opens the directory, and makes it unless `read_only`.

        Args:
          workdir: of the run.
          keep: how many of the newest checkpoints stay; the best one stays besides.
          read_only: whether to leave the directory untouched.

        Raises:
          UserError: the directory cannot be read or made.
        """
        self.directory = pathlib.Path(workdir).absolute() / 'checkpoints'
        self._read_only, self._needed = read_only, 0
        with leader_first('checkpoints'):
            self._put_aside_at_once = self._without_readable_metrics()
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
        handlers = {'state': ocp.PyTreeCheckpointHandler(), 'progress': ocp.JsonCheckpointHandler()}
        try:
            self._manager = ocp.CheckpointManager(self.directory, item_handlers=handlers, options=options)
        except Exception as error:  # where it finds something else than checkpoints it raises many kinds
            raise UserError(f'{self.directory} cannot be used for checkpoints: {_first_line(error)}.') from error

    def steps(self) -> list[int]:
        """Steps of the checkpoints that are there, ascending."""
        return sorted(self._manager.all_steps())

    def best(self) -> int | None:
        """Step of the checkpoint with the lowest validation error; None where none was validated."""
        best: int | None = self._manager.best_step()
        return best

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
        step = known.get(which)
        if step is None:
            raise UserError(
                f'--checkpoint={which}: {self.directory} has none; take newest, best, or one of '
                f'{", ".join(map(str, steps))}.'
            )
        return step

    def save(self, state: TrainState, progress: Progress, top1_error: float | None) -> None:
        """Saves in the background; the previous save is awaited first.

        Args:
          state: the arrays.
          progress: everything else.
          top1_error: validation error of this very state, where it has been measured.

        Raises:
          NotFiniteStateError: the state holds infinities or NaN.
          UserError: this save or the one before did not get to the disk, as where it is full.
        """
        checksums, finite = examine(state)
        if not finite:
            raise NotFiniteStateError(
                f'parameters or velocity are not finite after step {progress.step}, at the learning rate '
                f'{progress.control.learning_rate:g}'
            )
        metrics = None if top1_error is None else {'top1_error': top1_error}
        args = ocp.args.Composite(
            state=ocp.args.PyTreeSave(state), progress=ocp.args.JsonSave(to_fields(progress, checksums))
        )
        self._needed = sum(x.nbytes for x in jax.tree.leaves(state))
        free = shutil.disk_usage(self.directory).free
        if free < self._needed:
            self._cannot_be_saved(f'{format_bytes(free)} are free')
        try:
            self._manager.save(progress.step, args=args, metrics=metrics, force=True)
        except Exception as error:  # of this save, or of the one in the background before; Orbax raises many kinds
            self._cannot_be_saved(_first_line(error), error)

    def _cannot_be_saved(self, why: str, error: Exception | None = None) -> None:
        if 'No space left' in why:
            why = 'the disk is full'
        if several():
            why = f'{why}, or another process of this run has been lost'
        else:
            for rest in self.directory.glob('*.orbax-checkpoint-tmp*'):
                shutil.rmtree(rest, ignore_errors=True)
        steps = self.steps()
        kept = f'The checkpoint of step {steps[-1]} is kept' if steps else 'There is no earlier checkpoint'
        raise UserError(
            f'a checkpoint cannot be written to {self.directory}: {why}. It takes {format_bytes(self._needed)}. '
            f'{kept}; make room, and give the same command to carry on.'
        ) from error

    def restore(self, step: int, like: State, mesh: Mesh) -> tuple[State, Progress]:
        """Restores a checkpoint, or a part of it, onto a mesh, which need not be the one that wrote it.

        Args:
          step: one of `steps()`.
          like: shapes of the expected state, as `jax.eval_shape` gives them: a `TrainState`, or {'parameters': ...}
            alone, which reads half as many bytes.
          mesh: the devices to restore to.

        Raises:
          UserError: the checkpoint is of another network; the first parameter that differs is named.
          DamagedError: it cannot be read, or is not what was saved.
        """
        target = jax.tree.map(
            lambda x, where: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where), like, state_sharding(like, mesh)
        )
        restore_args = ocp.checkpoint_utils.construct_restore_args(target)
        args = ocp.args.Composite(
            state=ocp.args.PyTreeRestore(target, restore_args, partial_restore=True), progress=ocp.args.JsonRestore()
        )
        try:
            self._check_files(step)
            self._check_same_network(step, like)
            restored = self._manager.restore(step, args=args)
            progress, saved_checksums = from_fields(dict(restored.progress))
            if progress.step != step:
                raise ValueError(f'it says that it is of step {progress.step}')
            checksums, _ = examine(restored.state)
            changed = [name for name, checksum in checksums.items() if saved_checksums[name] != checksum]
            if changed:
                raise ValueError(f'{changed[0]} is not what was saved')
            return restored.state, progress
        except UserError:
            raise
        except Exception as error:  # on damaged files Orbax and TensorStore raise many kinds
            raise DamagedError(
                f'the checkpoint {self.directory / str(step)} is damaged: {_first_line(error)}. Take another one with '
                '--checkpoint.'
            ) from error

    def restore_newest(self, like: State, mesh: Mesh, say: Callable[[str], None]) -> tuple[State, Progress] | None:
        """Restores the newest checkpoint that is intact.

        Damaged ones are moved to WORKDIR/damaged_checkpoints, unless this is read-only.

        Args:
          like, mesh: as for `restore`.
          say: told of damaged checkpoints.

        Returns:
          None where there is no checkpoint at all.

        Raises:
          UserError: all of them are damaged, or they are of another network.
        """
        damaged = None
        for step in self._put_aside_at_once:
            say(
                f'the checkpoint {self.directory / str(step)} is damaged: its metrics cannot be read. It was put aside.'
            )
        for step in reversed(self.steps()):
            try:
                return self.restore(step, like, mesh)
            except DamagedError as error:
                damaged = error
                say(f'{str(error).removesuffix(" Take another one with --checkpoint.")} Taking the one before.')
                if not self._read_only:
                    with leader_first('damaged'):
                        self._put_aside(step)
                    self._manager.reload()
        if damaged:
            raise UserError(
                f'no checkpoint in {self.directory} can be read. To train from the start, name another --workdir.'
            ) from damaged
        return None

    def _put_aside(self, step: int) -> None:
        aside = self.directory.with_name('damaged_checkpoints') / str(step)
        if not is_leader():
            return
        with writing(aside):
            aside.parent.mkdir(exist_ok=True)
            if aside.exists():
                shutil.rmtree(aside)
            (self.directory / str(step)).rename(aside)

    def _without_readable_metrics(self) -> list[int]:
        """Puts aside the checkpoints whose metrics are damaged, which Orbax could not even list."""
        damaged = []
        for path in self.directory.glob('*/metrics/metrics'):
            step = path.parts[-3]
            try:
                readable = math.isfinite(read_json(path)['top1_error'])
            except (OSError, ValueError, TypeError, KeyError, OverflowError):
                readable = False
            if step.isdigit() and not readable:
                if self._read_only:
                    raise UserError(
                        f'the checkpoint {path.parents[1]} is damaged: its metrics cannot be read. Training again puts '
                        'it aside; or remove it.'
                    )
                self._put_aside(int(step))
                damaged.append(int(step))
        return damaged

    def _check_files(self, step: int) -> None:
        """Raises ValueError where a checkpoint holds a pipe or a device, which reading would wait for."""
        for path in (self.directory / str(step)).rglob('*'):
            if not (path.is_file() or path.is_dir()):
                raise ValueError(f'{path} is no plain file')

    def _check_same_network(self, step: int, like: State) -> None:
        found: dict[str, tuple[int, ...]] = _shapes(self._manager.item_metadata(step).state.tree['parameters'])
        wanted: dict[str, tuple[int, ...]] = _shapes(like['parameters'] if isinstance(like, dict) else like.parameters)
        for name in [*wanted, *found]:
            if found.get(name) != wanted.get(name):
                there, here = (str(list(x[name])) if name in x else 'does not exist' for x in (found, wanted))
                raise UserError(
                    f'The checkpoint {self.directory / str(step)} is of another network: the parameter {name} '
                    f'{_is(there)} in the checkpoint and {_is(here)} in the config. '
                    'Give the config that the run was made with (see config.json in its workdir), or another --workdir.'
                )

    def wait(self) -> None:
        """Returns when all saves are on disk.

        Raises:
          UserError: one did not get there.
        """
        try:
            self._manager.wait_until_finished()
            self._manager.check_for_errors()
        except Exception as error:  # of the save in the background
            self._cannot_be_saved(_first_line(error), error)

    def close(self) -> None:
        """Waits for saves and lets go of the directory.

        Raises:
          UserError: a save did not get to the disk.
        """
        self.wait()
        try:
            self._manager.close()
        except Exception as error:  # of a save in the background that `wait` was not told of
            self._cannot_be_saved(_first_line(error), error)


def _shapes(parameters: Any) -> dict[str, tuple[int, ...]]:
    return {name_of(path): tuple(leaf.shape) for path, leaf in jax.tree_util.tree_leaves_with_path(parameters)}


def _error(metrics: dict[str, float]) -> float:
    return metrics['top1_error']


def _is(what: str) -> str:
    return what if what.startswith('does') else f'is {what}'


def _first_line(error: Exception) -> str:
    """What an error says, without the page that TensorStore appends."""
    lines = re.split(r' \[tensorstore_spec|\. See full TensorStore', str(error))[0].splitlines()
    return lines[0].rstrip('.') if lines else type(error).__name__
