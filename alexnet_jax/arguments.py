"""The reading of launch.py's flags, so that a mistake in one ends in a plain message."""

import pathlib

from absl import flags
from ml_collections import ConfigDict
from rich.console import Console

from alexnet_jax.devices import choose_platform
from alexnet_jax.errors import UserError


def parse(argv: list[str]) -> list[str]:
    """Parses the command line; for `app.run(..., flags_parser=parse)`.

    Raises:
      UserError: a flag or a field of the config is unknown, or its value is of the wrong type.
    """
    for argument in argv[1:]:  # ml_collections would report a missing file at length
        if argument.startswith('--config='):
            path = argument.removeprefix('--config=').split(':')[0]
            if not pathlib.Path(path).is_file():
                raise UserError(f'{argument}: there is no file {path!r}; experiments/ holds those that come with us.')
    try:
        return flags.FLAGS(argv)
    except flags.Error as error:
        raise UserError(f'{str(error).rstrip(".")}. See python launch.py --help.') from error
    except (AttributeError, KeyError) as error:
        if not _is_about_a_field(error):
            raise
        raise UserError(f'unknown field in a --config.FIELD=VALUE flag: {_plain(error)}') from error


def _is_about_a_field(error: BaseException) -> bool:
    """Whether ml_collections raised it while looking a field up, rather than the config file while it ran."""
    trace = error.__traceback__
    files = []
    while trace is not None:
        files.append(pathlib.Path(trace.tb_frame.f_code.co_filename).parts[-2:])
        trace = trace.tb_next
    return any(parts[0] == 'config_flags' for parts in files) and files[-1][0] in ('config_dict', 'config_flags')


def _plain(error: BaseException) -> str:
    text = str(error.args[0] if error.args else error).strip('\'"')
    return ' '.join(text.replace('\\n', ' ').replace("\\'", "'").split())


def check(argv: list[str], config: ConfigDict | None, workdir: str | None, needs_workdir: bool) -> None:
    """Raises UserError where an argument is missing or is not a flag."""
    if len(argv) > 1:
        raise UserError(f'unexpected argument {argv[1]!r}; flags are written --name=value.')
    if config is None:
        raise UserError('--config is missing, for example --config=experiments/digits.py.')
    if needs_workdir and not workdir:
        raise UserError(
            '--workdir is missing: the directory where the run leaves its files, for example --workdir=runs/.'
        )


def start(config: ConfigDict) -> Console:
    """Settles which devices are used, says so, and returns where to print.

    On the CPU as many devices are simulated as the fields `mesh.data` and `mesh.column` ask for.
    """
    console = Console()
    if not console.is_terminal:
        console.width = 120  # nobody's window: leave tables room
    line = choose_platform(simulated=max(1, config.mesh.data) * max(1, config.mesh.column))
    console.print(line, highlight=False)
    return console
