"""Checkpoints with Orbax: the newest few, and the best by validation error; each is verified on restore."""

import contextlib
import dataclasses
import os
import pathlib
import re
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn, TypeVar

import jax
import orbax.checkpoint as ocp
from jax.sharding import Mesh

from alexnet_jax.model.alexnet import Parameters
from alexnet_jax.runs.checksums import examine, name_of
from alexnet_jax.runs.diagnosis import (
    METRICS,
    PROGRESS,
    STRUCTURE,
    DamagedError,
    damaged,
    explained,
    files_below,
    first_line,
    is_system,
    of_a_file,
    unreadable,
)
from alexnet_jax.runs.metrics_log import validation_errors
from alexnet_jax.runs.progress import Progress, error_in, from_fields, to_fields
from alexnet_jax.runs.workdir import DAMAGED, no_such_checkpoint
from alexnet_jax.runtime.distributed import is_leader, leader_first, several
from alexnet_jax.runtime.errors import UserError, writing
from alexnet_jax.runtime.files import read_json, sync, sync_tree, unused
from alexnet_jax.runtime.formatting import format_bytes
from alexnet_jax.runtime.quiet import without_message
from alexnet_jax.training.step import TrainState, state_sharding

State = TypeVar('State', TrainState, dict[str, Parameters])  # all of a checkpoint's arrays, or the parameters alone
_LOOKS, _QUIET_LOOKS, _LOOK_EVERY = 40, 4, 0.05  # for parts of a failed save; seconds


class NotFiniteStateError(Exception):
    """A state holds infinities or NaN, and was not saved."""


@dataclasses.dataclass(frozen=True)
class _NewestAndBest:
    """Which checkpoints Orbax leaves: the newest `keep`, and the one that `best` names among given steps."""

    keep: int
    best: Callable[[Sequence[int]], int | None]

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        steps = [checkpoint.step for checkpoint in checkpoints]
        kept = {*steps[-self.keep :], self.best(steps)}
        return [step in kept for step in steps]


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
        self._keep, self._read_only, self._needed, self._failed = keep, read_only, 0, False
        self._open()

    def _open(self) -> None:
        options = ocp.CheckpointManagerOptions(
            preservation_policy=_NewestAndBest(self._keep, self._best_of),
            best_fn=lambda metrics: metrics['top1_error'],  # without it Orbax would write no metrics
            best_mode='min',
            create=not self._read_only,
            read_only=self._read_only,
            save_interval_steps=0 if self._read_only else 1,  # as it would set itself, with a warning
            cleanup_tmp_directories=not self._read_only,
            lightweight_initialize=True,  # Orbax could not list a checkpoint whose metrics are damaged
            async_options=ocp.AsyncOptions(post_finalization_callback=self._sync),
        )
        handlers = {'state': ocp.PyTreeCheckpointHandler(), 'progress': ocp.JsonCheckpointHandler()}
        try:
            before = self._listed()
            with without_message('absl', 'Given directory is read only'):  # which says what was asked for
                self._manager = ocp.CheckpointManager(self.directory, item_handlers=handlers, options=options)
            missed = (before & self._listed()).difference(self._manager.all_steps())
        except (OSError, ValueError) as error:  # something else than checkpoints is there, or they may not be read
            raise UserError(f'{self.directory} cannot be used for checkpoints: {first_line(error)}.') from error
        if missed:  # as Orbax takes what it may not look at for absent
            raise UserError(
                f'{self.directory}: the checkpoint of step {max(missed)} is there, but cannot be looked at. Nothing '
                'has been changed; put that right, and give the same command again.'
            )
        self._errors = self._read_errors()

    def _listed(self) -> set[int]:
        """Steps of the checkpoints that are there, whether or not they can be looked at; raises OSError."""
        try:
            with os.scandir(self.directory) as entries:
                names = [entry.name for entry in entries if entry.is_dir()]
        except FileNotFoundError:
            return set()
        return {int(name) for name in names if re.fullmatch('0|[1-9][0-9]{,17}', name)}

    def reload(self) -> None:
        """Looks again which checkpoints are there, as another process may have changed that."""
        self._manager.close()
        self._open()

    def steps(self) -> list[int]:
        """Steps of the checkpoints that are there, ascending."""
        return sorted(self._manager.all_steps())

    def best(self) -> int | None:
        """Step of the checkpoint with the lowest validation error; None where none was validated."""
        return self._best_of(self.steps())

    def _best_of(self, steps: Sequence[int]) -> int | None:
        """Of equally good ones the latest."""
        errors = {step: error for step in reversed(steps) if (error := self._errors.get(step)) is not None}
        return min(errors, key=errors.__getitem__, default=None)

    def _read_errors(self) -> dict[int, float | None]:
        """The validation error of each checkpoint, from its progress, its metrics, or the run's metrics.jsonl."""
        errors: dict[int, float | None] = {}
        for step in self.steps():
            directory = self.directory / str(step)
            with contextlib.suppress(ValueError, TypeError, KeyError):
                errors[step] = error_in(_read_if_there(directory / PROGRESS))
                continue
            with contextlib.suppress(ValueError, TypeError, KeyError):
                errors[step] = _checked(_read_if_there(directory / METRICS)['top1_error'])
        # The metrics of early runs may be damaged or missing; then the log still has them.
        lost = {
            step for step in self.steps() if step not in errors and (self.directory / str(step) / 'metrics').exists()
        }
        return errors | (validation_errors(self.directory.parent, lost) if lost else {})

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
            raise no_such_checkpoint(self.directory, which, steps)
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
        fields = to_fields(progress, checksums, top1_error)
        args = ocp.args.Composite(state=ocp.args.PyTreeSave(state), progress=ocp.args.JsonSave(fields))
        self.wait()  # for the one before, whose parts, and what it replaces, take space until it has ended
        self._needed = sum(x.nbytes for x in jax.tree.leaves(state))
        free = shutil.disk_usage(self.directory).free
        if free < self._needed:
            self._cannot_be_saved(f'{format_bytes(free)} are free')
        self._errors[progress.step] = top1_error
        with self._saving():
            self._manager.save(progress.step, args=args, metrics=metrics, force=True)

    def _sync(self) -> None:
        """Puts a checkpoint on disk before it gets its name, as Orbax does not sync what is not arrays."""
        if is_leader():
            for unfinished in self.directory.glob('*.orbax-checkpoint-tmp*'):
                sync_tree(unfinished)

    @contextlib.contextmanager
    def _saving(self) -> Iterator[None]:
        """Turns what the system refuses a save into a UserError; a defect of the software keeps its traceback."""
        try:
            yield
        except Exception as error:
            self._failed = True
            if is_system(error) or of_a_file(error) or several():
                self._cannot_be_saved(first_line(error), error)
            raise

    def _remove_unfinished(self) -> None:
        """Removes what there is of a failed save, of which other parts may still be written for a moment."""
        quiet = 0
        for _ in range(_LOOKS):
            unfinished = list(self.directory.glob('*.orbax-checkpoint-tmp*'))
            quiet = 0 if unfinished else quiet + 1
            if quiet == _QUIET_LOOKS:
                return
            for rest in unfinished:
                shutil.rmtree(rest, ignore_errors=True)  # the next start removes what is left
            time.sleep(_LOOK_EVERY)

    def _cannot_be_saved(self, why: str, error: Exception | None = None) -> NoReturn:
        if 'No space left' in why:
            why = 'the disk is full'
        if several():
            why = f'{why}, or another process of this run has been lost'
        else:
            self._remove_unfinished()
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
          UserError: the checkpoint is of another network, the first parameter that differs being named; or the system
            refuses to read it.
          DamagedError: it is not what was saved.
          diagnosis.GoneError: it has been deleted meanwhile.
        """
        directory = self.directory / str(step)
        target = jax.tree.map(
            lambda x, where: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where), like, state_sharding(like, mesh)
        )
        restore_args = ocp.checkpoint_utils.construct_restore_args(target)
        args = ocp.args.Composite(
            state=ocp.args.PyTreeRestore(target, restore_args, partial_restore=True), progress=ocp.args.JsonRestore()
        )
        try:
            list(files_below(directory))  # raises where one is no plain file
            self._check_same_network(step, like)
            try:
                restored = self._manager.restore(step, args=args)
            except ValueError as error:  # Orbax takes a file that it may not look at for a moment for one of old times
                if explained(directory, error) is not error:
                    raise
                restored = self._manager.restore(step, args=args)
        except UserError:
            raise
        except Exception as error:
            known = explained(directory, error)
            if known is error:
                raise
            raise known from error
        try:
            progress, saved_checksums = from_fields(restored.progress)
        except (ValueError, TypeError, KeyError) as error:
            raise damaged(directory, str(error)) from error
        if progress.step != step:
            raise damaged(directory, f'it says that it is of step {progress.step}')
        for name, checksum in examine(restored.state)[0].items():
            if saved_checksums.get(name) != checksum:
                raise damaged(directory, f'{name} is not what was saved')
        return restored.state, progress

    def restore_newest(self, like: State, mesh: Mesh, say: Callable[[str], None]) -> tuple[State, Progress] | None:
        """Restores the newest checkpoint that is intact.

        Damaged ones are moved to WORKDIR/damaged_checkpoints, unless this is read-only; nothing else is.

        Args:
          like, mesh: as for `restore`.
          say: told of damaged checkpoints.

        Returns:
          None where there is no checkpoint at all.

        Raises:
          UserError: all of them are damaged, or one is of another network or may not be read.
        """
        found = None
        for step in reversed(self.steps()):
            try:
                return self.restore(step, like, mesh)
            except DamagedError as error:
                found = error
                aside = '' if self._read_only else ' It was put aside.'
                say(f'{str(error).removesuffix(" Take another one with --checkpoint.")}{aside} Taking the one before.')
                if not self._read_only:
                    with leader_first('damaged'):
                        self._put_aside(step)
                    self.reload()
        if found:
            raise UserError(
                f'no checkpoint in {self.directory} is whole. To train from the start, give --from_start, or name '
                'another --workdir.'
            ) from found
        return None

    def _put_aside(self, step: int) -> None:
        if not is_leader():
            return
        aside = self.directory.with_name(DAMAGED)
        with writing(aside):
            aside.mkdir(exist_ok=True)
            (self.directory / str(step)).rename(unused(aside / str(step)))
            sync(aside)
            sync(self.directory)

    def _check_same_network(self, step: int, like: State) -> None:
        directory = self.directory / str(step)
        # Not the manager's metadata, for which it reads the metrics too.
        found: dict[str, str] = _arrays(ocp.PyTreeCheckpointHandler().metadata(directory / 'state').tree['parameters'])
        wanted: dict[str, str] = _arrays(like['parameters'] if isinstance(like, dict) else like.parameters)
        for name in [*wanted, *found]:
            if found.get(name) != wanted.get(name):
                there, here = (x.get(name, 'does not exist') for x in (found, wanted))
                raise UserError(
                    f'The checkpoint {directory} is of another network: the parameter {name} '
                    f'{_is(there)} in the checkpoint and {_is(here)} in the config. '
                    'Give the config that the run was made with (see config.json in its workdir), or another --workdir.'
                )

    def wait(self) -> None:
        """Returns when all saves are on disk.

        Raises:
          UserError: one did not get there.
        """
        with self._saving():
            self._manager.wait_until_finished()
            self._manager.check_for_errors()

    def close(self) -> None:
        """Waits for saves and lets go of the directory.

        Raises:
          UserError: a save did not get to the disk.
        """
        if self._failed:
            with contextlib.suppress(Exception):  # what follows from a failure that has been told would hide it
                self._manager.close()
            if not several():
                self._remove_unfinished()
            return
        self.wait()
        with self._saving():
            self._manager.close()


def _arrays(parameters: Any) -> dict[str, str]:
    """Shape of each parameter, and its type where that is not float32."""
    leaves = jax.tree_util.tree_leaves_with_path(parameters)
    kinds = {name_of(path): str(leaf.dtype).replace('float32', '') for path, leaf in leaves}
    return {name_of(path): f'{kinds[name_of(path)]} {list(leaf.shape)}'.strip() for path, leaf in leaves}


def _read_if_there(path: pathlib.Path) -> Any:
    """A JSON file, or nothing in place of a missing one; UserError where the system refuses to read it."""
    try:
        return read_json(path)
    except OSError as error:
        if error.errno in STRUCTURE:
            return {}
        raise unreadable(path.parents[1], error) from error


def _checked(error: Any) -> float:
    if type(error) not in (int, float) or not 0 <= error <= 1:
        raise ValueError(f'{error!r} is no error')
    return float(error)


def _is(what: str) -> str:
    return what if what.startswith('does') else f'is {what}'
