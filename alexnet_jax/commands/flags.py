"""Parsing of launch.py's flags: a mistake in one ends in a plain message."""

import csv
import difflib
import itertools
import os
import pathlib
import re
import sys
import traceback
from collections.abc import Sequence
from typing import Any

from absl import flags
from ml_collections import ConfigDict

from alexnet_jax.runtime.errors import UserError
from alexnet_jax.runtime.paths import local_path, split_list

_CONFIG_FILES = ('config', 'beside')  # flags that take one
WITH_CONFIG = ('train', 'prepare', 'inspect', 'figure1', 'study')  # modes that need no existing run
WITHOUT_CONFIG = ('compare', 'import')  # modes that take none: networks have their own
_RENAMED_MODES = {'neighbours': 'neighbors'}
_TRAINED = pathlib.Path(__file__).parents[2] / 'trained' / 'tiny_imagenet'  # what comes with the software


flags.disclaim_key_flags()  # those defined below are of the module that asks for them, as --help lists them


class _Path(flags.ArgumentParser):  # type: ignore[type-arg]  # of absl, which carries no types
    """Parses a flag that names a file or a directory."""

    syntactic_help = 'a path'

    def parse(self, argument: str) -> str:
        return local_path(argument)


class _List(flags.MultiFlag):  # type: ignore[type-arg]
    """A flag of several items, given several times or separated by commas; paths are expanded."""

    def __init__(self, name: str, description: str, default: Sequence[str]) -> None:
        super().__init__(flags.ArgumentParser(), flags.ArgumentSerializer(), name, list(default), description)
        self.help = f'{description} Several are separated by commas, or are in several --{name}.'

    def _parse(self, arguments: Any) -> list[str]:
        try:
            return [local_path(item) for item in split_list([arguments] if isinstance(arguments, str) else arguments)]
        except (ValueError, csv.Error) as error:
            raise flags.IllegalFlagValueError(f'flag --{self.name}={arguments}: {error}') from error


def define_path(name: str, description: str) -> flags.FlagHolder:
    """Defines a flag that names a file or a directory, None by default; see `local_path`."""
    return flags.DEFINE(_Path(), name, None, description, serializer=flags.ArgumentSerializer())


def define_list(name: str, description: str, default: Sequence[str] = ()) -> flags.FlagHolder:
    """Defines a flag of several items; see `split_list` and `local_path`."""
    return flags.DEFINE_flag(_List(name, description, default))


def parse(argv: list[str]) -> list[str]:
    """Parses the command line; for `app.run(..., flags_parser=parse)`.

    Raises:
      UserError: a flag or a field of the config is unknown, or its value is of the wrong type.
    """
    argv = _with_new_names(argv)
    _check_mode(argv)
    if _given('mode', argv)[-1:] == ['demo'] and not _given('workdir', argv) and _TRAINED.exists():
        argv = [*argv, f'--workdir={_TRAINED}']
    argv = sys.argv = _with_config_of_run(_with_files_first(_with_home(argv)))  # where ml_collections looks for fields
    for flag in _CONFIG_FILES:
        _check_files(flag, argv)
    try:
        rest = flags.FLAGS(argv)
        for flag in _CONFIG_FILES:
            value = flags.FLAGS[flag].value
            if not isinstance(value, ConfigDict) and _given(flag, argv):
                raise UserError(
                    f'--{flag}={_given(flag, argv)[-1]}: get_config() must return an ml_collections.ConfigDict, not '
                    f'{type(value).__name__}.'
                )
        return rest
    except flags.Error as error:
        raise UserError(_of_flags(str(error), argv)) from error
    except SyntaxError as error:
        place = f'{error.filename}, line {error.lineno}' if error.filename else _being_read(argv)
        raise UserError(f'{place}: {error.msg}.') from error
    except UserError:
        raise
    except Exception as error:  # whatever a config file may raise
        if "no attribute 'get_config'" in str(error):
            raise UserError(f'{_being_read(argv)}: the file has no function get_config().') from error
        where = _place_in_config(error)
        if where is None and isinstance(error, AttributeError | KeyError):
            raise UserError(_of_field(error, _fields(argv))) from error
        raise UserError(f'{_being_read(argv)} could not be read: {_described(error)} ({where}).') from error


def note(line: str) -> None:
    """Tells the user of a name that is outdated but understood."""
    print(f'note: {line}', file=sys.stderr)


def _with_new_names(argv: list[str]) -> list[str]:
    """Replaces names of earlier versions, of modes and of fields, and tells the user."""
    text = '\0'.join(argv)
    for old, new in _RENAMED_MODES.items():
        text, count = re.subn(rf'(?<=\0)(--?mode[=\0]){old}(?=\0|$)', rf'\g<1>{new}', text)
        if count:
            note(f'--mode={old} is now called --mode={new}.')
    if not re.search(r'\0--?(?:config|beside|allow_changes)\b', text):
        return text.split('\0')
    from alexnet_jax.config import RENAMED

    for old, new in RENAMED.items():
        text, count = re.subn(rf'(?<=\0)(--?(?:config|beside)\.){re.escape(old)}(?=[=\0])', rf'\g<1>{new}', text)
        allowed = rf'(?<=\0)(--?allow_changes[=\0](?:[^\0]*,)?){re.escape(old)}(?=[,\0]|$)'
        text, more = re.subn(allowed, rf'\g<1>{new}', text)
        if count or more:
            note(f'config.{old} is now called config.{new}.')
    return text.split('\0')


def _with_home(argv: list[str]) -> list[str]:
    """Expands '~' in the names of config files, and in what follows their colon, as in finetune.py:~/runs/paper."""

    def expanded(found: re.Match[str]) -> str:
        return found[1] + ':'.join(map(os.path.expanduser, found[2].split(':', 1)))

    return re.sub(r'(?<=\0)(--?(?:config|beside)[=\0])([^\0]*)', expanded, '\0'.join(argv)).split('\0')


def _with_files_first(argv: list[str]) -> list[str]:
    """Puts config files before the fields that change them, as ml_collections wants it."""
    first, rest, remaining = [], [], iter(argv[1:])
    for argument in remaining:
        name, equals, _ = argument.lstrip('-').partition('=')
        if argument.startswith('-') and name in _CONFIG_FILES:
            first += [argument] if equals else [argument, *itertools.islice(remaining, 1)]
        else:
            rest.append(argument)
    return [argv[0], *first, *rest]


def _check_mode(argv: list[str]) -> None:
    """Raises UserError for an unknown mode, before a run is looked at."""
    parser: Any = flags.FLAGS['mode'].parser
    known = parser.enum_values
    for mode in _given('mode', argv):
        if mode not in known:
            close = difflib.get_close_matches(mode, known, 1)
            hint = f'did you mean {close[0]!r}?' if close else f'there are {", ".join(known)}.'
            raise UserError(f'--mode={mode}: there is no such mode; {hint}')


def _given(flag: str, argv: list[str]) -> list[str]:
    """Values given for a flag."""
    return [value for _, value in re.findall(_pattern(flag), '\0'.join(argv[1:]))]


def _pattern(flag: str) -> str:
    """Matches a flag and its value, --flag=VALUE or --flag VALUE, in arguments joined by nulls."""
    return rf'(?:^|\0)--?({flag})[=\0]([^\0]*)'


def seeds(given: list[str]) -> list[int]:
    """The seeds of --seeds.

    Raises:
      UserError: one is not a number or given twice, or --config.seed sets one too.
    """
    if other := [field for field in _fields(sys.argv) if field.startswith('--config.seed')]:
        raise UserError(f'{other[0]}: this mode takes its seeds from --seeds, as in --seeds=0,1,2.')
    if wrong := [seed for seed in given if not seed.isdecimal()]:
        raise UserError(f'--seeds={",".join(given)}: {wrong[0]!r} is not a whole number of 0 or more.')
    numbers = [int(seed) for seed in given]
    if twice := [seed for place, seed in enumerate(numbers) if seed in numbers[:place]]:
        raise UserError(f'--seeds={",".join(given)} names {twice[0]} twice.')
    return numbers


def command_of_run(variant: str, seed: int, workdir: str, mode: str) -> list[str]:
    """The command line for a run of a study: that of the study, for one variant of the experiment and one seed.

    Args:
      variant: of the experiment's file; 'base' for --config as it was given.
      seed, workdir, mode: of the run.
    """
    from alexnet_jax.runs.workdir import has_checkpoint  # brings NumPy

    config = _given('config', sys.argv)[-1]
    if variant != 'base':
        config = f'{config.split(":")[0]}:{variant}'
    rest = re.sub(_pattern('config|workdir|mode|variants|seeds'), '', '\0'.join(sys.argv[1:])).strip('\0')
    if has_checkpoint(workdir):  # the flag is for those of which none is left
        rest = re.sub(r'(?:^|\0)--?from_start(=[^\0]*)?(?=\0|$)', '', rest).strip('\0')
    own = [f'--config={config}', *rest.split('\0')] if rest else [f'--config={config}']
    return [sys.executable, sys.argv[0], *own, f'--config.seed={seed}', f'--workdir={workdir}', f'--mode={mode}']


def _fields(argv: list[str]) -> list[str]:
    """Arguments that set a field of a config."""
    return [argument for argument in argv if argument.startswith(tuple(f'--{flag}.' for flag in _CONFIG_FILES))]


def _check_files(flag: str, argv: list[str]) -> None:
    """Raises UserError where a flag does not name a config file; ml_collections would print a page."""
    fields, named = [field for field in _fields(argv) if field.startswith(f'--{flag}.')], _given(flag, argv)
    if fields and not named:
        raise UserError(f'{fields[0]} needs --{flag}=FILE, for example --{flag}=experiments/digits.py.')
    for name in named:
        if not pathlib.Path(name.split(':')[0]).is_file():
            raise UserError(f'--{flag}={name}: there is no such file; experiments/ holds those that come with us.')
        if not name.split(':')[0].endswith('.py'):
            hint = ' The config.json of a run is taken where --config is left out.' if flag == 'config' else ''
            raise UserError(f'--{flag}={name} is not a Python file.{hint}')


def _being_read(argv: list[str]) -> str:
    """The flag, as given, whose config file was being read: the first without a config, as they are read in turn."""
    given = [one.groups() for one in re.finditer(_pattern('|'.join(_CONFIG_FILES)), '\0'.join(argv[1:]))]
    unread = [(flag, name) for flag, name in given if flags.FLAGS[flag].value is None]
    flag, name = unread[0] if unread else given[-1]
    return f'--{flag}={name}'


def _with_config_of_run(argv: list[str]) -> list[str]:
    """Adds the --config of an existing run, for modes that open one."""
    workdir, mode = _given('workdir', argv), (_given('mode', argv) or ['train'])[-1]
    if _given('config', argv) or _given('ensemble', argv) or not workdir or mode in WITH_CONFIG + WITHOUT_CONFIG:
        return argv
    try:
        directory = local_path(workdir[-1])
    except ValueError:
        return argv  # to be refused with the other flags
    return [argv[0], f'--config={pathlib.Path(__file__).with_name("run_config.py")}:{directory}', *argv[1:]]


def _place_in_config(error: BaseException) -> str | None:
    """The place in a config file that an error comes from; None if ml_collections itself raised it, for a flag."""
    places = []
    for frame in traceback.extract_tb(error.__traceback__):
        known = {'absl', 'flags', 'ml_collections', 'config_flags', 'config_dict', 'alexnet_jax'}
        if known.isdisjoint(pathlib.Path(frame.filename).parts[-3:-1]) and not frame.filename.startswith('<'):
            places.append(f'{frame.filename}, line {frame.lineno}')
    return places[-1] if places else None


def _described(error: BaseException) -> str:
    return f'{type(error).__name__}: {str(error).splitlines()[0] if str(error) else "without a message"}'


def _of_flags(text: str, argv: list[str]) -> str:
    """The message for an error of absl, or of a config file that it has read."""
    if 'Traceback' not in text:
        unknown = re.match(r"Unknown command line flag '(.*)'\. Did you mean: (\S+)", text)
        if unknown:
            return f'there is no flag --{unknown[1]}; did you mean --{unknown[2]}? See python launch.py --help.'
        return f'{text.rstrip(".")}. See python launch.py --help.'
    named = _being_read(argv)
    if 'get_config() takes 0 positional arguments' in text:
        return f'{named}: this experiment has no variants; leave out the colon and what follows.'
    lines = [line.strip() for line in text.splitlines() if line.strip() and line.strip() != '.']
    place = [line for line in lines if line.startswith('File ')][-1].removeprefix('File ').split(', in ')[0]
    return f'{named} could not be read: {lines[-1]} ({place}).'


def _of_field(error: Exception, fields: list[str]) -> str:
    """The message for an unknown field of the config."""
    words = re.findall(r'[\w.]+', str(error.args[0]).replace('\\n', ' '))
    unknown = words[0]
    suggestion = re.search(r'Did you mean "([^"]+)"', str(error))
    where = next((flag for flag in fields if unknown in flag.split('=')[0].split('.')), '--config.FIELD=VALUE')
    hint = f'; did you mean {suggestion[1]!r}?' if suggestion else '.'
    return f'{where}: the config has no field {unknown!r}{hint}'
