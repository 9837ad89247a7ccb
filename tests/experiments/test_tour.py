"""The tour: its notebook runs on a reader's photograph and network; its page is the notebook's; a browser shows it."""

import html
import json
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest
from launching import environment
from PIL import Image

ROOT = pathlib.Path(__file__).parents[2]
NOTEBOOK, PAGE = ROOT / 'notebooks' / 'tour.ipynb', ROOT / 'docs' / 'tour.html'
CELLS = json.loads(NOTEBOOK.read_text(encoding='utf-8'))['cells']
FAILS = {'cells': [{'cell_type': 'code', 'metadata': {}, 'source': ['print(6 * 7)\n', '1 / 0']}]}


def generate(place, *arguments, **variables):
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=environment() | {'IPYTHONDIR': str(place / 'ipython')} | variables,
        capture_output=True,
        text=True,
        timeout=600,
    )


def texts(page):
    """What the page shows, without tags."""
    return html.unescape(re.sub(r'<[^>]*>', '', re.sub(r'<style>.*?</style>', '', page, flags=re.DOTALL)))


def printed(page):
    """What cells have printed, white space joined."""
    found = re.findall('<pre class="text" tabindex="0">(.*?)</pre>', page, re.DOTALL)
    return ' '.join(html.unescape(' '.join(found)).split())


@pytest.fixture(scope='module')
def page(tmp_path_factory):
    """The page of a reader who has a photograph and a trained network of his own."""
    place = tmp_path_factory.mktemp('tour')
    pixels = np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8)
    Image.fromarray(pixels).save(place / 'mine.png')
    mine = {'PHOTOGRAPH': str(place / 'mine.png'), 'TRAINED': str(ROOT / 'tests' / 'runs' / 'old_run')}
    done = generate(place, 'docs/generate_tour.py', str(place / 'tour.html'), **mine)
    assert done.returncode == 0, done.stdout + done.stderr
    return (place / 'tour.html').read_text(encoding='utf-8')


def test_every_cell_runs(page):
    assert page.count('<pre class="code"') == sum(cell['cell_type'] == 'code' for cell in CELLS)
    assert page.count('<img') >= 17 and 'not there' not in printed(page)
    assert 'Traceback' not in page and 'Out[' not in page


# What is known without the software: from the paper, or by arithmetic.
KNOWN = [
    f'55x55x96 {55 * 55 * 96:,} 253,440 34,944 105,415,200 <- a slip',
    f'conv2 256 of 5x5x48 27x27x256 {27 * 27 * 256:,} 186,624',
    '60,965,224 parameters',
    f'parameters on each: {60_965_224 // 2:,} numbers',
    f'all-gather f32[128,13,13,256] {13 * 13 * 128 * 4:,} bytes',
    f'sum: {4 * (2 * (13 * 13 * 128 + 6 * 6 * 128 + 2048 + 2048) + 500):,} bytes for an image',
    f'map 1: 200 / (2 + 0.0001 * 41000)^0.75 = {200 / 6.1**0.75:.4f}',
    '33 x 33 x 2 = 2,178',
    'step 1: v = -0.020005, w = 0.979995',
    'one tower: 62,378,344 parameters',
    '5 patches and as many reflections: 10 views',
    '7 CNNs* ten 36.7 % 15.4 %',
]


@pytest.mark.parametrize('words', KNOWN)
def test_what_it_prints(words, page):
    assert words in printed(page)


def test_the_rule_by_hand_is_the_librarys(page):
    by_hand, library = re.findall(r'(?:step 3: v = -[\d.]+,|ax\.update_rule:) w = ([\d.]+)', printed(page))
    assert by_hand == library


def test_a_column_switched_off_is_missed(page):
    both, *one = map(float, re.findall(r'(?:both columns|convolutions of column \d): ([\d.]+) % error', printed(page)))
    assert both < 10 and len(one) == 2 and min(one) > both


def test_a_cell_that_fails_fails_the_page(tmp_path):
    (tmp_path / 'fails.ipynb').write_text(json.dumps(FAILS))
    code = 'import pathlib, sys; sys.path.insert(0, "docs"); import generate_tour as tour; '
    done = generate(tmp_path, '-c', f'{code}tour.page(pathlib.Path({str(tmp_path / "fails.ipynb")!r}))')
    assert done.returncode != 0 and 'ZeroDivisionError' in done.stderr and '42' in done.stderr


# The notebook, and the page that is in the repository.


def test_the_notebook_is_left_without_outputs():
    assert all(not cell['outputs'] and cell['execution_count'] is None for cell in CELLS if 'outputs' in cell)


def test_solutions_are_folded_in_the_notebook():
    solutions = [cell['metadata'] for cell in CELLS if 'solution' in cell['metadata'].get('tags', [])]
    assert len(solutions) == 6
    assert all(one['jupyter']['source_hidden'] and one['cellView'] == 'form' for one in solutions)


def test_the_page_is_the_notebooks():
    """If not: python docs/generate_tour.py"""
    page = PAGE.read_text(encoding='utf-8')
    shown = [html.unescape(part) for part in re.findall('<pre class="code" tabindex="0">(.*?)</pre>', page, re.DOTALL)]
    sources = [''.join(cell['source']) for cell in CELLS if cell['cell_type'] == 'code']
    assert shown == [re.sub('^# @title .*\n', '', source) for source in sources]
    joined = ' '.join(texts(page).split())
    for cell in CELLS:
        if cell['cell_type'] == 'markdown':
            plain = re.sub(r'</?(?:details|summary)>|[`#]|^> ?', '', ''.join(cell['source']), flags=re.MULTILINE)
            for paragraph in plain.split('\n\n'):
                assert ' '.join(paragraph.split()) in joined


def test_the_page_is_one_small_file():
    page = PAGE.read_text(encoding='utf-8')
    assert len(page) < 3_000_000 and "default-src 'none'" in page
    assert not re.findall(r'<(?:script|link|iframe|object|embed|base)\b|@import|url\(', page)
    assert all(source.startswith('data:') for source in re.findall(r'src="([^"]*)', page))
    assert all(target.startswith('#') for target in re.findall(r'href="([^"]*)', page))
    assert 'http' not in texts(page)


LOOK = """() => ({
  images: [...document.images].map(image => image.naturalWidth),
  across: document.documentElement.scrollWidth,
  folded: [...document.querySelectorAll('details')].filter(part => !part.open).length,
  broken: [...document.querySelectorAll('nav a')].filter(a => !document.getElementById(a.hash.slice(1))).length,
  beyond: [...document.querySelectorAll('p, h1, h2, nav, summary')]
    .filter(part => part.getBoundingClientRect().right > window.innerWidth).map(part => part.textContent),
  without: [...document.images].filter(image => !image.alt).length,
})"""


@pytest.mark.parametrize('width, height', [(1280, 900), (360, 740)], ids=['desktop', 'phone'])
def test_a_browser_shows_it(width, height, browser):
    page = browser.new_page(viewport={'width': width, 'height': height})
    said, asked = [], []
    page.on('console', lambda message: said.append(message.text))
    page.on('pageerror', lambda error: said.append(str(error)))
    page.on('request', lambda request: asked.append(request.url))
    page.goto(PAGE.as_uri())
    folded = page.evaluate(LOOK)['folded']
    page.evaluate("for (const part of document.querySelectorAll('details')) part.open = true")
    seen = page.evaluate(LOOK)
    page.close()
    assert said == [] and [url for url in asked if not url.startswith('data:')] == [PAGE.as_uri()]
    assert len(seen['images']) >= 14 and min(seen['images']) > 0 and seen['without'] == 0
    assert seen['across'] <= width and seen['beyond'] == [] and seen['broken'] == 0
    assert folded >= 12 and seen['folded'] == 0
