"""--mode=demo: the page in a real browser, what it shows of a photograph, and what it refuses."""

import dataclasses
import io
import json
import pathlib
import re
import socket
import sys
import threading

import numpy as np
import pytest
import requests
from fakes import console, encoded
from PIL import Image
from small_run import copied

from alexnet_jax.commands.demo import demo, make_server
from alexnet_jax.commands.demo_analysis import Analyzer, shown_layers
from alexnet_jax.commands.features import extract
from alexnet_jax.commands.hosts import is_loopback, names_this_machine
from alexnet_jax.config import Config
from alexnet_jax.data.dataset import open_prepared
from alexnet_jax.data.pipeline import open_shards, read
from alexnet_jax.figures.maps import gray_range, map_sheet
from alexnet_jax.model.figure_2 import figure_2
from alexnet_jax.runs.trained import load_run
from alexnet_jax.runs.workdir import read_config
from alexnet_jax.runtime.errors import UserError


def photograph():
    """An image file, larger than the network's and not square."""
    return encoded(np.random.default_rng(0).integers(0, 256, (60, 90, 3)), kind='JPEG')


@dataclasses.dataclass
class Page:
    """A page that is served.

    Attributes:
      address: of it.
      workdir: of the run that it shows.
    """

    address: str
    workdir: pathlib.Path

    def sent(self, content, name='photograph.jpg', **options):
        """The answer to an upload, without a browser."""
        return requests.post(self.address, files={'photograph': (name, content)}, timeout=60, **options)


@pytest.fixture(scope='module')
def page(trained, tmp_path_factory):
    """The page of a run that has features."""
    pytest.importorskip('flask')
    pytest.importorskip('waitress')
    _, workdir = copied(trained, tmp_path_factory.mktemp('demo'))
    config = read_config(workdir)
    extract(config, str(workdir), 'newest', 'fc7', 'train', [], console())
    server = make_server(Analyzer(load_run(workdir)), '127.0.0.1', 0)
    thread = threading.Thread(target=server.run)
    thread.start()
    yield Page(f'http://127.0.0.1:{server.effective_port}/', workdir)
    server.close()
    server.task_dispatcher.shutdown()
    thread.join(30)


SAID = ('effective_port', 'effective_listen')  # by a server of one address, and by one of several
LOOK = """() => ({
  images: [...document.images].map(image => image.naturalWidth),
  across: document.documentElement.scrollWidth,
  labels: [...document.querySelectorAll('.labels .name')].map(label => label.textContent),
  bars: [...document.querySelectorAll('.labels rect')].map(bar => bar.width.baseVal.value),
  near: document.querySelectorAll('.near li').length,
  layers: [...document.querySelectorAll('summary b')].map(layer => layer.textContent),
  sheets: [...document.querySelectorAll('details')].map(layer => layer.querySelectorAll('img').length),
})"""


@pytest.mark.parametrize('width, scheme', [(1280, 'light'), (360, 'dark')])
def test_a_browser_shows_what_the_network_sees(width, scheme, page, browser, tmp_path):
    file = tmp_path / 'a photograph.jpg'
    file.write_bytes(photograph())
    tab = browser.new_page(viewport={'width': width, 'height': 740}, color_scheme=scheme)
    said, asked = [], []
    tab.on('console', lambda message: said.append(message.text))
    tab.on('pageerror', lambda error: said.append(str(error)))
    tab.on('request', lambda request: asked.append(request.url))
    tab.goto(page.address)
    tab.set_input_files('input[type=file]', file)
    tab.wait_for_selector('.labels')
    tab.evaluate("for (const part of document.querySelectorAll('details')) part.open = true")
    seen = tab.evaluate(LOOK)
    tab.close()
    assert said == [] and {url for url in asked if not url.startswith('data:')} == {page.address}
    [expected] = load_run(page.workdir).top_classes([str(file)])
    assert seen['labels'] == [name for name, _ in expected]
    assert seen['bars'] == pytest.approx([100 * share for _, share in expected], abs=0.01)
    assert seen['near'] == 6 and seen['across'] <= width
    assert seen['layers'] == ['conv1', 'pool1', 'fc7'] and seen['sheets'] == [2, 2, 2]
    assert len(seen['images']) == 1 + 6 + 6 and min(seen['images']) > 0


def test_a_photograph_is_dropped(page, browser):
    tab = browser.new_page()
    tab.goto(page.address)
    drop = """bytes => {
      const given = new DataTransfer();
      given.items.add(new File([new Uint8Array(bytes)], 'dropped.jpg', {type: 'image/jpeg'}));
      document.body.dispatchEvent(new DragEvent('drop', {dataTransfer: given, bubbles: true, cancelable: true}));
    }"""
    tab.evaluate(drop, list(photograph()))
    tab.wait_for_selector('.labels')
    assert len(tab.evaluate(LOOK)['labels']) == 5
    tab.close()


def test_a_browser_says_what_cannot_be_read(page, browser, tmp_path):
    file = tmp_path / 'no picture.jpg'
    file.write_bytes(b'<b>no picture</b>')
    tab = browser.new_page(viewport={'width': 360, 'height': 740})
    tab.goto(page.address)
    tab.set_input_files('input[type=file]', file)
    tab.wait_for_function("document.getElementById('problem').textContent.length > 0")
    assert 'cannot be read as an image' in tab.text_content('#problem')
    assert tab.evaluate(LOOK)['layers'] == [] and tab.evaluate('document.documentElement.scrollWidth') <= 360
    large = tmp_path / 'large.jpg'
    large.write_bytes(photograph() + bytes(20_000_000))
    asked = []
    tab.on('request', lambda request: asked.append(request.url))
    tab.set_input_files('input[type=file]', large)
    tab.wait_for_function("document.getElementById('problem').textContent.includes('too large')")
    assert asked == []  # not even sent
    tab.close()


@pytest.mark.parametrize('content', [b'', photograph()[:300], b'\x89PNG\r\n\x1a\n' + bytes(50)], ids=len)
def test_what_is_no_picture(content, page):
    answer = page.sent(content)
    assert answer.status_code == 400 and re.search('The file is empty|cannot be read as an image', answer.text)
    assert '<summary>' not in answer.text


def test_an_upload_too_large(page):
    answer = page.sent(photograph() + bytes(20_000_000))
    assert answer.status_code == 413 and 'the limit is 20 MB' in answer.text
    assert page.sent(photograph()).status_code == 200  # it goes on


def test_uploads_are_kept_nowhere(page, monkeypatch):
    def refused(*_, **__):
        raise AssertionError('a file')

    for name in ('TemporaryFile', 'SpooledTemporaryFile', 'NamedTemporaryFile', 'mkstemp'):
        monkeypatch.setattr(f'tempfile.{name}', refused)
    monkeypatch.setattr('werkzeug.formparser.SpooledTemporaryFile', refused, raising=False)
    before = {path: path.stat().st_mtime_ns for path in page.workdir.rglob('*')}
    large = encoded(np.random.default_rng(1).integers(0, 256, (1000, 1000, 3)), kind='PNG')  # 3 MB
    answer = page.sent(large, name='../../config.json')
    assert answer.status_code == 200 and 'config.json' not in answer.text
    assert {path: path.stat().st_mtime_ns for path in page.workdir.rglob('*')} == before


@pytest.mark.parametrize('host', ['[::1]', '[::1]:8012', 'localhost:1', '127.0.0.1', '127.1.2.3:80', 'LOCALHOST'])
def test_names_of_this_machine(host, page):
    assert names_this_machine(host)
    assert requests.get(page.address, headers={'Host': host}, timeout=60).status_code == 200


@pytest.mark.parametrize('host', ['example.com', 'localhost.example.com', '[::2]', '10.0.0.1:8012', '', '[', 'a:b:c'])
def test_other_names(host):
    assert not names_this_machine(host)


@pytest.mark.parametrize(
    'headers',
    [
        {'Origin': 'http://example.com'},
        {'Sec-Fetch-Site': 'cross-site'},
        {'Sec-Fetch-Site': 'same-site'},
    ],
    ids=str,
)
def test_another_sites_page_cannot_send_a_photograph(headers, page):
    assert page.sent(photograph(), headers=headers).status_code == 403
    for own in ({'Origin': page.address.rstrip('/')}, {'Origin': 'null', 'Sec-Fetch-Site': 'same-origin'}):
        assert page.sent(photograph(), headers=own).status_code == 200


def test_no_other_sites_name_leads_to_it(page):
    assert requests.get(page.address, headers={'Host': 'example.com'}, timeout=60).status_code == 400
    host = page.address.split('/')[2].replace('127.0.0.1', 'localhost')
    answer = requests.get(page.address, headers={'Host': host}, timeout=60)
    assert answer.status_code == 200
    rules = answer.headers['Content-Security-Policy']
    assert "default-src 'none'" in rules and "form-action 'self'" in rules and 'unsafe' not in rules
    assert answer.headers['Cache-Control'] == 'no-store'


@pytest.mark.parametrize(
    'path', ['config.json', '../config.json', '%2e%2e/config.json', 'static/x', '?file=/etc/passwd']
)
def test_no_address_leads_to_a_file(path, page):
    answer = requests.get(page.address + path, timeout=60)
    assert answer.status_code == 404 or (path[0] == '?' and '<form' in answer.text)
    assert 'batch_size' not in answer.text and 'root:' not in answer.text


def test_names_are_text_and_not_markup(trained):
    pytest.importorskip('flask')
    from alexnet_jax.commands.demo_page import application

    run = load_run(trained[1])
    config = run.config.replace(name='<script>alert(1)</script>')
    run = dataclasses.replace(
        run,
        experiment=dataclasses.replace(run.experiment, config=config),
        data=dataclasses.replace(run.data, class_names=('<b>"a\'&',) * 10),
    )
    client = application(Analyzer(run), local=False).test_client()
    answer = client.post('/', data={'photograph': (io.BytesIO(photograph()), '<i>.jpg')}).text
    assert answer.count('&lt;b&gt;&#34;a&#39;&amp;') == 5 and '<b>"' not in answer and '<i>' not in answer
    assert '&lt;script&gt;alert(1)' in answer and '<script>' not in answer


def test_a_training_image_is_nearest_to_itself(page):
    run = load_run(page.workdir)
    data = open_prepared(run.config.data.directory)
    pixels, label = read(open_shards(data, 'train'), 17, 10)
    analysis = Analyzer(run).analyze(encoded(pixels))
    np.testing.assert_allclose(np.int16(analysis.neighbors[0][0]), pixels, atol=12)  # through JPEG once more
    assert analysis.neighbors[0][1] == str(label) and len(analysis.neighbors) == 6


def test_without_features_it_says_so(trained, tmp_path):
    analyzer = Analyzer(load_run(copied(trained, tmp_path)[1]))
    assert 'no features of the training images' in analyzer.without_neighbors
    assert analyzer.analyze(photograph()).neighbors == []


def test_a_training_image_that_cannot_be_read_is_said(page, monkeypatch):
    def damaged(*_):
        raise UserError('a shard is damaged')

    monkeypatch.setattr('alexnet_jax.commands.demo_analysis.read', damaged)
    answer = page.sent(photograph())
    assert answer.status_code == 500 and 'a shard is damaged' in answer.text


def test_features_of_other_images_are_not_taken(page, trained, tmp_path):
    _, workdir = copied(trained, tmp_path)
    (workdir / 'features').mkdir()
    [made] = (page.workdir / 'features').iterdir()
    features = workdir / 'features' / made.name
    features.mkdir()
    about = json.loads((made / 'features.json').read_text())
    (features / 'values.npy').write_bytes((made / 'values.npy').read_bytes())
    (features / 'features.json').write_text(json.dumps(about | {'shards': ['0' * 64]}))
    assert 'of other images' in Analyzer(load_run(workdir)).without_neighbors


def test_maps_are_those_of_the_network(trained):
    run = load_run(trained[1])
    image = np.random.default_rng(0).integers(0, 256, (24, 24, 3), np.uint8)
    analysis = Analyzer(run).analyze(encoded(image))
    conv1 = analysis.layers[0]
    assert (conv1.name, conv1.words) == ('conv1', '16 maps of 9 x 9')
    values = run.features(analysis.pixels[None], 'conv1').reshape(9, 9, 2, 8)  # column by column
    expected = np.clip(values[:, :, 1, 2] * (255 / np.quantile(np.float32(values), 0.995)), 0, 255)
    shown = conv1.sheets[1][:9, 20:29, 0]  # the third map, in rows of four
    np.testing.assert_allclose(shown, expected, atol=1.5)


def test_layers_that_are_shown():
    shown = shown_layers(tuple(figure_2().items()))
    assert list(shown) == [
        *('conv1', 'norm1', 'pool1', 'conv2', 'norm2', 'pool2', 'conv3', 'conv4', 'conv5', 'pool5', 'fc6', 'fc7')
    ]
    assert shown['conv1'] == 'relu1' and shown['norm1'] == 'norm1'


def test_a_sheet_of_maps():
    maps = np.stack([np.full((2, 3), value, np.float32) for value in (0, 1, 2, 4, -1)], axis=-1)
    sheet = map_sheet(maps, 0.0, 4.0)
    assert sheet.shape == (5, 15, 2)  # four to a row, and a pixel between
    np.testing.assert_array_equal(sheet[0, [0, 4, 8, 12], 0], [0, 63, 127, 255])
    assert (sheet[:2, 3, 1] == 0).all() and (sheet[3:, 4:, 1] == 0).all() and (sheet[3:, :3] == [0, 255]).all()
    assert map_sheet(np.arange(8, dtype=np.float32), 0.0, 0.0).shape == (17, 35, 2)
    assert gray_range([np.full(600, 2.0), np.array([0.0, 900.0])]) == (0.0, 2.0)
    assert gray_range([np.full(600, -5.0), np.array([2.0])]) == (-5.0, 5.0)
    assert gray_range([np.append(np.zeros(600), 3.0)]) == (0.0, 3.0)


def test_addresses_that_no_other_machine_reaches():
    assert all(map(is_loopback, ('127.0.0.1', '127.1.2.3', '::1', 'localhost')))
    assert not any(map(is_loopback, ('0.0.0.0', '::', '192.168.0.7', 'example.com', '')))


def test_a_port_that_is_taken():
    pytest.importorskip('flask')
    with socket.socket() as taken:
        taken.bind(('127.0.0.1', 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=rf'listen on --host=127.0.0.1 --port={port}: .*another --host or --port'):
            make_server(None, '127.0.0.1', port)


def test_without_its_packages(trained, monkeypatch):
    monkeypatch.setitem(sys.modules, 'waitress', None)
    monkeypatch.setitem(sys.modules, 'flask', sys)
    with pytest.raises(UserError, match='--mode=demo needs flask and waitress, and waitress is missing'):
        demo(Config.from_fields(trained[0]), str(trained[1]), 'newest', '127.0.0.1', 0, console())


def test_it_says_where_it_is(trained, monkeypatch, tmp_path):
    pytest.importorskip('flask')
    waitress = pytest.importorskip('waitress')
    made = waitress.create_server
    monkeypatch.setattr('waitress.create_server', lambda *args, **options: Ended(made(*args, **options)))
    config, workdir = copied(trained, tmp_path)
    addresses = socket.getaddrinfo('127.0.0.1', 0, type=socket.SOCK_STREAM)
    addresses += [(*addresses[0][:4], ('127.0.0.2', 0))]
    known = socket.getaddrinfo
    monkeypatch.setattr(
        'socket.getaddrinfo', lambda host, *more: addresses if host == 'localhost' else known(host, *more)
    )
    for host, words in (('127.0.0.1', ()), ('0.0.0.0', ('it has no password',)), ('localhost', ())):
        said = console()
        demo(Config.from_fields(config), str(workdir), 'newest', host, 0, said)
        text = said.file.getvalue()
        assert re.search(rf'Open http://{host}:[1-9]\d+ in a browser', text) and 'No nearest images' in text
        assert ('it has no password' in text) == bool(words)


class Ended:
    """A server that ends as soon as it runs."""

    def __init__(self, server):
        vars(self).update({name: getattr(server, name) for name in SAID if hasattr(server, name)})
        self.run = server.close


def test_sheets_are_pictures():
    sheet = map_sheet(np.zeros((4, 4, 2), np.float32), 0.0, 1.0)
    content = io.BytesIO()
    Image.fromarray(sheet).save(content, 'PNG')
    assert Image.open(content).mode == 'LA'
