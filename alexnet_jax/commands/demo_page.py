"""The page of `--mode=demo`, as a Flask application that shows what a network makes of a photograph.

An uploaded file is kept in memory while the request is answered, and nowhere else; its name is ignored. The page loads
nothing from elsewhere.
"""

import base64
import io
import pathlib
import secrets
from collections.abc import Mapping
from typing import IO, Any

import flask
import jinja2
import numpy as np
import werkzeug
from PIL import Image

from alexnet_jax.commands.demo_analysis import FEATURES, Analysis, Analyzer
from alexnet_jax.commands.hosts import comes_from_elsewhere, names_this_machine
from alexnet_jax.figures.examples import short_name, whole_percent
from alexnet_jax.runtime.errors import UserError, printable

LARGEST = 20_000_000  # bytes of an upload
_FIELD = 'photograph'  # of the form


class _Request(flask.Request):
    """A request whose files stay in memory, where Flask would write larger ones to disk."""

    max_form_parts = 4

    def _get_file_stream(self, *_: Any, **__: Any) -> IO[bytes]:
        return io.BytesIO()


def application(analyzer: Analyzer, local: bool) -> flask.Flask:
    """The application: a form at /, and the same with what the network makes of the photograph that was sent.

    Args:
      analyzer: of the trained network.
      local: whether the page may be asked for by this machine's own names alone.
    """
    app = flask.Flask(__name__, static_folder=None, template_folder=None)
    app.request_class = _Request
    app.config |= {'MAX_CONTENT_LENGTH': LARGEST}
    template = jinja2.Environment(
        loader=jinja2.FileSystemLoader(pathlib.Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    ).get_template('demo.html.jinja')

    def page(analysis: Analysis | None = None, problem: str = '', status: int = 200) -> flask.Response:
        nonce = secrets.token_urlsafe()
        text = template.render(
            **_facts(analyzer),
            analysis=None if analysis is None else _pictures(analysis),
            problem=problem,
            nonce=nonce,
            largest=LARGEST,
            field=_FIELD,
        )
        rules = f"default-src 'none'; img-src data:; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'"
        headers = {
            'Content-Security-Policy': f"{rules}; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
            'X-Content-Type-Options': 'nosniff',
            'Referrer-Policy': 'no-referrer',
            'Cache-Control': 'no-store',
        }
        return flask.Response(text, status, headers, mimetype='text/html')

    @app.before_request
    def refuse() -> None:
        request = flask.request
        if local and not names_this_machine(request.headers.get('Host', '')):
            flask.abort(400)
        if request.method == 'POST' and comes_from_elsewhere(dict(request.headers), request.headers.get('Host', '')):
            flask.abort(403)

    @app.get('/')
    def form() -> flask.Response:
        return page()

    @app.post('/')
    def answer() -> flask.Response:
        file = flask.request.files.get(_FIELD)
        encoded = file.read() if file else b''
        if not encoded:
            return page(problem='The file is empty.' if file and file.filename else 'No file was chosen.', status=400)
        try:
            return page(analyzer.analyze(encoded))
        except ValueError as error:
            return page(problem=f'This file cannot be read as an image: {printable(str(error))}.', status=400)

    @app.errorhandler(werkzeug.exceptions.RequestEntityTooLarge)
    def too_large(_: werkzeug.exceptions.RequestEntityTooLarge) -> flask.Response:
        return page(problem=f'The file is too large; the limit is {LARGEST // 10**6} MB.', status=413)

    @app.errorhandler(UserError)
    def unreadable(error: UserError) -> flask.Response:
        return page(problem=str(error), status=500)

    return app


def _facts(analyzer: Analyzer) -> dict[str, Any]:
    """What the page says about the network."""
    run = analyzer.run
    columns = {1: 'one column', 2: 'two columns'}.get(run.config.columns, f'{run.config.columns} columns')
    return {
        'name': run.config.name,
        'columns': columns,
        'classes': len(run.class_names),
        'source': run.data.settings.source,
        'step': run.progress.step,
        'features': FEATURES,
        'without_neighbors': analyzer.without_neighbors,
    }


def _pictures(analysis: Analysis) -> Mapping[str, Any]:
    """What was seen, as texts and pictures that a page can hold."""
    return {
        'photograph': _picture(analysis.pixels, 'JPEG', quality=90),
        'labels': [(short_name(name), share, whole_percent(share)) for name, share in analysis.labels],
        'neighbors': [(_picture(pixels, 'JPEG', quality=90), short_name(name)) for pixels, name in analysis.neighbors],
        'layers': [
            {'name': layer.name, 'words': layer.words, 'sheets': [_picture(sheet, 'PNG') for sheet in layer.sheets]}
            for layer in analysis.layers
        ],
    }


def _picture(pixels: np.ndarray, kind: str, **options: Any) -> str:
    """Pixels as the address of a picture that is in the page itself."""
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, kind, **options)
    return f'data:image/{kind.lower()};base64,{base64.b64encode(content.getvalue()).decode()}'
