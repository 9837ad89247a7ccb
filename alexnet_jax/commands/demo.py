"""A page on this machine that shows what a trained network makes of a photograph: `--mode=demo`."""

from typing import TYPE_CHECKING, Any

from rich.console import Console

from alexnet_jax.commands.hosts import is_loopback
from alexnet_jax.config import Config
from alexnet_jax.runs.trained import open_run
from alexnet_jax.runtime.errors import UserError, say

if TYPE_CHECKING:
    from alexnet_jax.commands.demo_analysis import Analyzer


def demo(config: Config, workdir: str, which: str, host: str, port: int, console: Console) -> None:
    """Serves the page until it is interrupted.

    Args:
      config: of the run.
      workdir: of the run; without its data set and features the page shows no nearest images.
      which: 'newest', 'best', or a step.
      host: address to listen on. On a loopback address no other machine can reach the page.
      port: to listen on; 0 for any that is free.
      console: for the page's address.

    Raises:
      UserError: the run cannot be used, a package is missing, or the address cannot be listened on.
    """
    try:
        import flask  # noqa: F401 - the packages of the extra 'demo'
        import waitress  # noqa: F401
    except ImportError as error:
        raise UserError(
            f'--mode=demo needs flask and waitress, and {error.name} is missing: pip install flask waitress.'
        ) from error
    from alexnet_jax.commands.demo_analysis import Analyzer

    analyzer = Analyzer(open_run(config, workdir, which, lambda line: say(console, line)))
    if analyzer.without_neighbors:
        say(console, f'No nearest images in {workdir}: {analyzer.without_neighbors}.')
    server = make_server(analyzer, host, port)
    analyzer.compile()
    where = f'[{host}]' if ':' in host else host
    # A name with several addresses, as localhost often has, gets a server for each.
    _, found_port = (getattr(server, 'effective_listen', None) or [(host, server.effective_port)])[0]
    say(console, f'Open http://{where}:{found_port} in a browser. Ctrl-C ends it.')
    if not is_loopback(host):
        say(console, 'Anyone who can reach this machine at that address can use the page; it has no password.')
    server.run()


def make_server(analyzer: 'Analyzer', host: str, port: int) -> Any:
    """A server that is listening; `server.run()` answers until it is interrupted. Arguments and errors as of `demo`."""
    import waitress

    from alexnet_jax.commands.demo_page import LARGEST, application

    app = application(analyzer, local=is_loopback(host))
    most = 2 * LARGEST  # bytes in memory, none of which goes to disk
    options: dict[str, Any] = {'threads': 4, 'ident': None, 'max_request_body_size': most, 'inbuf_overflow': most}
    options['connection_limit'] = 16  # others wait: at most 0.64 GB of uploads at a time
    try:
        return waitress.create_server(app, host=host, port=port, **options)
    except (OSError, ValueError) as error:
        reason = str(getattr(error, 'strerror', None) or error).rstrip('.')
        raise UserError(
            f'The demo cannot listen on --host={host} --port={port}: {reason}. Name another --host or --port.'
        ) from error
