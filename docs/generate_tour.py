"""Runs notebooks/tour.ipynb and writes it, with its results, as one page: python docs/generate_tour.py [PAGE]

PAGE is docs/tour.html unless given. In the environment, PHOTOGRAPH=a.jpg takes your own photograph, and
TRAINED=runs/digits a network of your own.
"""

import base64
import io
import json
import pathlib
import re
import sys
from typing import Any

import jinja2
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import RichOutput, capture_output
from markdown_it import MarkdownIt
from PIL import Image
from traitlets.config import Config

ROOT = pathlib.Path(__file__).resolve().parents[1]
NOTEBOOK = ROOT / 'notebooks' / 'tour.ipynb'
_LONG = 18  # lines of code that are folded
_WIDE = 700  # pixels of a picture that is scrolled on small screens
_LARGE = 60_000  # bytes of a PNG that is compressed


class _Shell(InteractiveShell):
    """IPython without a window, where pictures are results as in a notebook."""

    def enable_gui(self, gui: Any = None) -> None:
        """Does nothing; IPython leaves it to subclasses."""


def page(notebook: pathlib.Path) -> str:
    """Runs a notebook's cells, in the current directory, and returns the page.

    Raises:
      Exception: that of the first cell that fails.
    """
    cells, headings = [], []
    markdown = MarkdownIt('commonmark')
    shell = _Shell.instance(config=Config({'HistoryManager': {'enabled': False}}))
    shell.display_formatter.active_types = ['text/plain', 'image/png']
    for cell in json.loads(notebook.read_text(encoding='utf-8'))['cells']:
        source = ''.join(cell['source'])
        if cell['cell_type'] == 'markdown':
            html = markdown.render(source)
            for heading in re.findall('<h2>(.*?)</h2>', html):
                anchor = re.sub(r'\W+', '-', heading.lower()).strip('-')
                html = html.replace(f'<h2>{heading}</h2>', f'<h2 id="{anchor}">{heading}</h2>')
                headings.append((anchor, heading))
            cells.append({'kind': 'markdown', 'html': html})
        else:
            title = headings[-1][1] if headings else 'photograph'
            cells.append({'kind': 'code', **_run(shell, source, title)})
            cells[-1]['solution'] = 'solution' in cell['metadata'].get('tags', [])
            cells[-1]['long'] = source.count('\n') >= _LONG
    title = 'A tour of AlexNet'
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(ROOT / 'docs'), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template('tour.html.jinja').render(cells=cells, headings=headings, title=title)


def _run(shell: InteractiveShell, source: str, title: str) -> dict[str, Any]:
    """A cell's source, what it prints, and its pictures."""
    with capture_output() as captured:
        result = shell.run_cell(source, store_history=False)
    if not result.success:
        print(captured.stdout, captured.stderr, file=sys.stderr)
        result.raise_error()
    pictures = [one.data['image/png'] for one in captured.outputs if 'image/png' in one.data]
    described = [_picture(base64.b64decode(png) if isinstance(png, str) else png) for png in pictures]
    return {
        'source': re.sub('^# @title .*\n', '', source),
        'text': _printed(captured.stdout, captured.outputs),
        'pictures': [(uri, f'Picture: {title}', width > _WIDE) for uri, width in described],
    }


def _printed(text: str, outputs: list[RichOutput]) -> str:
    values = [one.data['text/plain'] for one in outputs if 'text/plain' in one.data and 'image/png' not in one.data]
    return '\n'.join([text.rstrip(), *values]).strip('\n')


def _picture(png: bytes) -> tuple[str, int]:
    """A picture as a data URI, large ones compressed; and its width in pixels."""
    with Image.open(io.BytesIO(png)) as image:
        width, kind, content = image.width, 'png', png
        if len(png) > _LARGE:
            compressed = io.BytesIO()
            image.convert('RGB').save(compressed, 'WEBP', quality=88)
            kind, content = 'webp', compressed.getvalue()
    return f'data:image/{kind};base64,{base64.b64encode(content).decode()}', width


if __name__ == '__main__':
    target = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / 'docs' / 'tour.html')
    target.write_text(page(NOTEBOOK), encoding='utf-8')
    print(f'wrote {target}')
