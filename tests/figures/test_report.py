"""The report of a run: what it says, and how a browser shows it."""

import base64
import html
import json
import re

import pytest
from configs import typed
from fakes import console
from PIL import Image

from alexnet_jax.commands.inspect import lines_of
from alexnet_jax.config import network_config
from alexnet_jax.figures.report import picture, write_report
from alexnet_jax.model.summary import ColumnExchange, column_exchanges
from alexnet_jax.runs.workdir import write_config
from alexnet_jax.runtime.errors import UserError
from experiments import cifar10, digits, figure1, networks_2012, paper

SVG = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 90 40"><path d="M0 0L90 40" stroke="#000"/></svg>'
ERRORS = {'top1_error': 0.40123, 'top5_error': 0.18, 'loss': 1.5}
EVALUATION = {'step': 23, 'epoch': 2, 'source': 'digits', 'split': 'validation', 'examples': 1360}
EVALUATION |= {'views': {'center': ERRORS, 'ten': {'top1_error': 0.35, 'top5_error': 0.1, 'loss': 1}}}
METRICS = [
    {'step': 12, 'epoch': 1.07, 'split': 'train', 'loss': 2.25, 'top1_error': 0.875, 'top5_error': 0.5},
    {'step': 12, 'epoch': 1.07, 'split': 'validation', 'loss': 2, 'top1_error': 0.25, 'top5_error': 0.125},
    {'step': 23, 'epoch': 2.05, 'split': 'train', 'loss': 1.125, 'top1_error': 0.375, 'top5_error': 0.3},
    {'step': 23, 'epoch': 2.05, 'split': 'validation', 'loss': 1.75, 'top1_error': 0.3125, 'top5_error': 0.0625},
]
COLORS = {'color_column1': 0.125, 'color_column2': 0.75}


@pytest.fixture
def workdir(tmp_path):
    """A run that has left nothing but its config."""
    write_config(typed(digits.get_config()), tmp_path)
    return tmp_path


def fill(workdir, metrics=METRICS, evaluation=EVALUATION, pictures=True):
    """Leaves what training, evaluation and drawing leave."""
    (workdir / 'metrics.jsonl').write_text(''.join(json.dumps(line | COLORS) + '\n' for line in metrics))
    (workdir / 'eval.json').write_text(json.dumps(evaluation))
    if pictures:
        (workdir / 'figures').mkdir()
        for name in ('learning_curves', 'color', 'codes', 'network', 'network_narrow'):
            (workdir / 'figures' / f'{name}.svg').write_text(SVG + f'<!-- {name} -->')
        for name in ('kernels', 'predictions', 'neighbors', 'color'):
            Image.new('RGB', (1800, 900), 'red').save(workdir / 'figures' / f'{name}.png')


def written(workdir, config=None):
    on = console()
    path = write_report(typed(config or digits.get_config()), str(workdir), on)
    assert path == workdir / 'report.html'
    assert on.file.getvalue().replace('\n', '') == f'wrote {path}'
    return path.read_text()


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    """The directory of a run with everything in it, and its report."""
    workdir = tmp_path_factory.mktemp('whole')
    write_config(typed(digits.get_config()), workdir)
    fill(workdir)
    return workdir, written(workdir)


def words(part):
    """The text of a piece of HTML, as a reader sees it."""
    return ' '.join(html.unescape(re.sub(r'<[^>]*>', ' ', part)).split())


def rows(page, section):
    """The rows of a section's tables, each a list of texts."""
    part = re.search(rf'<section id="{section}">.*?</section>', page, re.S)[0]
    found = re.findall(r'<tr.*?</tr>', part, re.S)
    return [[words(cell) for cell in re.findall(r'<t[hd].*?</t[hd]>', row, re.S)] for row in found]


def test_what_was_run(whole):
    workdir, page = whole
    assert words(re.search(r'<h1>.*</h1>', page)[0]) == 'digits: report of a run'
    facts = dict(rows(page, 'run'))
    assert facts['directory'] == str(workdir)
    assert facts['trained'] == '23 steps, 2.05 of 24 epochs'
    assert facts['checkpoints'] == 'none'
    assert facts['network'] == '2 columns, 894,986 parameters'
    assert facts['learning rate'] == '0.01, 0.001 from epoch 16 on, 0.0001 from epoch 21 on'
    assert facts['images'] == 'digits, 72 x 72 pixels, patches of 64, not mirrored'
    assert re.fullmatch(r'\d{4}-\d\d-\d\d \d\d:\d\d UTC \(metrics.jsonl\)', facts['last written'])
    config = json.loads(html.unescape(re.search(r'<pre[^>]*>(.*?)</pre>', page, re.S)[1]))
    assert config == json.loads(json.dumps(digits.get_config().to_dict()))


def test_the_heuristic_rate_in_words(workdir):
    facts = dict(rows(written(workdir, paper.get_config()), 'run'))
    assert facts['learning rate'] == '0.01, divided by 10 after 5 epochs without improvement, at most 3 times'
    assert 'trained' not in facts and 'last written' not in facts


def test_rates_and_decays_of_layers_are_mentioned(workdir):
    facts = dict(rows(written(workdir, networks_2012.get_config('170')), 'run'))
    assert facts['learning rate'].endswith('some layers have rates of their own (rate_control in the config below)')
    facts = dict(rows(written(workdir, cifar10.get_config()), 'run'))
    assert facts['weight decay'].count(' in ') == len(cifar10.get_config().layer_decays) > 0
    assert dict(rows(written(workdir, figure1.get_config()), 'run'))['learning rate'].endswith(' throughout')


PICTURES = ('learning_curves', 'kernels', 'predictions')


def test_captions_are_those_of_the_config(workdir):
    (workdir / 'figures').mkdir(exist_ok=True)
    for name in PICTURES:
        (workdir / 'figures' / f'{name}.svg').write_text(SVG)
    config = digits.get_config()
    config.data.mirror = True
    page = written(workdir, config)
    assert 'training on random patches with dropout, validation on the central patch' in page
    assert 'Column below column, in the order' in page and 'most probable classes, averaged over 10 patches' in page
    config = digits.get_config('single_tower')
    config.data.random_crop = False
    config.network = network_config({name: layer for name, layer in typed(config).network if 'drop' not in name})
    page = written(workdir, config)
    assert 'training on central patches, validation' in page and 'In the order of the parameters' in page
    assert 'most probable classes, averaged over 5 patches' in page


def test_final_and_best_errors(workdir):
    nan = {**METRICS[1], 'step': 6, 'top1_error': float('nan')}
    fill(workdir, [nan, *METRICS])
    table = rows(written(workdir), 'learning')
    assert table[1:] == [
        ['training, last line', '2.05', '23', '1.125', '37.50%', '30.00%'],
        ['validation, last', '2.05', '23', '1.75', '31.25%', '6.25%'],
        ['validation, lowest top-1 error', '1.07', '12', '2', '25.00%', '12.50%'],
    ]


def test_a_run_that_diverged(workdir):
    fill(workdir, [{**line, 'loss': float('nan'), 'top1_error': float('nan')} for line in METRICS])
    table = rows(written(workdir), 'learning')
    assert table[1:] == [
        ['training, last line', '2.05', '23', 'nan', 'NaN', '30.00%'],
        ['validation, last', '2.05', '23', 'nan', 'NaN', '6.25%'],
    ]


def test_on_data_of_its_own_the_paper_is_for_comparison_only(whole):
    _, page = whole
    assert 'The paper reports nothing on these images (digits, validation)' in page
    assert '1,360 images, each counted once' in page
    inside = re.search(r'<details>\s*<summary>For comparison only.*?</details>', page, re.S)[0]
    assert inside.count('ImageNet, ILSVRC-20') >= 2 and 'not the images of this run' in inside
    ours = [row for row in rows(page.replace(inside, ''), 'results')[1:]]
    assert ours == [
        ['digits, step 23 (epoch 2)', 'center', '40.12%', '18.00%'],
        ['digits, step 23 (epoch 2)', 'ten', '35.00%', '10.00%'],
    ]
    assert ['1 CNN (Table 2)', 'ten', '40.7%', '18.2%'] in rows(page, 'results')


def test_on_imagenet_the_paper_stands_beside(workdir):
    runs = [{'workdir': f'runs/{name}', 'step': 7, 'views': {'ten': ERRORS}} for name in ('a', '<b>')]
    evaluation = {
        **EVALUATION,
        'source': 'imagenet2012',
        'classes': 1000,
        'examples': 50_000,
        'views': {'ten': ERRORS},
        'runs': runs,
    }
    del evaluation['step'], evaluation['epoch']
    fill(workdir, evaluation=evaluation)
    page = written(workdir)
    table = rows(page, 'results')
    assert [row[0] for row in table[1:5]] == [
        'runs/a, step 7',
        'runs/<b>, step 7',
        '2 runs averaged',
        '1 CNN (Table 2)',
    ]
    assert ['7 CNNs* (Table 2)', 'ten', '36.7%', '15.4%'] in table
    assert 'For comparison only' not in page and 'Table 1' not in words(page)


def test_pictures_are_in_the_file(whole):
    workdir, page = whole
    sources = re.findall(r'<img src="data:([^;]+);base64,([^"]+)" alt="([^"]+)"', page)
    assert len(sources) == page.count('<img') == 7
    assert [kind for kind, _, _ in sources] == [
        'image/svg+xml',
        'image/png',
        'image/svg+xml',
        *['image/png'] * 2,
        *['image/svg+xml'] * 2,
    ]
    assert base64.b64decode(sources[0][1]).decode().startswith(SVG)
    assert base64.b64decode(sources[1][1]) == (workdir / 'figures' / 'kernels.png').read_bytes()
    assert len({alt for _, _, alt in sources}) == 7
    assert rows(page, 'kernels')[1:] == [['column 1', '0.125', '2.05'], ['column 2', '0.750', '2.05']]


def test_nothing_is_loaded_from_elsewhere(whole):
    _, page = whole
    assert not re.findall(r'<(?:script|link|iframe|object|embed|base)\b', page)
    assert not re.findall(r'@import|url\(', page)
    assert all(source.startswith('data:') for source in re.findall(r'src\s*=\s*"([^"]*)', page))
    assert all(target.startswith('#') for target in re.findall(r'href\s*=\s*"([^"]*)', page))
    assert 'http:' not in page and 'https:' not in page
    assert "default-src 'none'" in page


def test_what_is_missing_is_said(workdir):
    page = written(workdir)
    assert '<img' not in page
    said = words(page)
    command = f'python launch.py --workdir={workdir} --mode='
    assert 'The run has logged nothing yet' in said
    for sentence, mode in (
        ('The run has not been evaluated yet: there is no eval.json. To make it: ', 'eval'),
        ('The kernels have not been drawn yet; this needs a checkpoint. To make it: ', 'figures'),
        ('Predictions have not been drawn yet;', 'figures'),
        ('They have not been computed yet. To make it: ', 'neighbors'),
        ('The network has not been drawn yet. To make it: ', 'figures'),
    ):
        assert sentence in said and command + mode in said[said.index(sentence) :][:300]
    fill(workdir, pictures=False)
    assert 'The learning curves have not been drawn yet. To make it: ' + command + 'figures' in words(written(workdir))


def test_metrics_of_training_alone(workdir):
    (workdir / 'metrics.jsonl').write_text(json.dumps(METRICS[0]) + '\n{"step": 13, "epo')
    page = written(workdir)
    assert [row[0] for row in rows(page, 'learning')[1:]] == ['training, last line']
    assert 'it is measured at every validation' in words(page)


def test_of_a_run_of_any_length_the_validations_and_the_end_are_read(workdir, parsed):
    fill(workdir, [METRICS[0]] * 3000 + METRICS)
    assert rows(written(workdir), 'learning')[1] == ['training, last line', '2.05', '23', '1.125', '37.50%', '30.00%']
    assert len(parsed) < 10


def test_everything_is_escaped(workdir):
    config = digits.get_config()
    config.name = '<script>alert("1")</script> & $x$ \ud800'
    config.data.directory = '</pre><img src=x onerror=alert(1)>'
    fill(workdir, evaluation={**EVALUATION, 'source': '<i>own</i>'})
    page = written(workdir, config)
    assert '<script' not in page and '<img src=x' not in page and '<i>' not in page
    assert '&lt;script&gt;alert(&#34;1&#34;)&lt;/script&gt; &amp; $x$ \\ud800' in page
    assert '&lt;/pre&gt;&lt;img src=x onerror=alert(1)&gt;' in page and '&lt;i&gt;own&lt;/i&gt;' in page


def test_the_network_and_its_exchanges(workdir):
    config = paper.get_config()
    config.precision = 'bfloat16'
    table = rows(written(workdir, config), 'network')
    assert ['conv2', '256 of 5x5x48', 'own column', '27 × 27 × 256', '307,456', '223,948,800'] in table  # noqa: RUF001
    assert ['sum', '', '', '', '60,965,224', '724,406,816'] in table
    assert ['conv3', '21,632', '43,264'] in table and ['softmax', '500', '1,000'] in table
    assert table[-1] == ['sum', '30,836', '61,672']
    found = column_exchanges(lines_of(typed(paper.get_config())), 2, 4)
    assert found == [
        ColumnExchange('conv3', 13 * 13 * 128, 86528),
        ColumnExchange('fc6', 6 * 6 * 128, 18432),
        ColumnExchange('fc7', 2048, 8192),
        ColumnExchange('fc8', 2048, 8192),
        ColumnExchange('softmax', 500, 2000),
    ]


def test_exchanges_in_half_precision_take_two_bytes_a_value():
    config = paper.get_config()
    config.network.exchange3.precision = 'float16'
    lines = lines_of(typed(config))
    assert [one.size for one in column_exchanges(lines, 2, 4)] == [43264, 18432, 8192, 8192, 2000]
    assert [line.kernel for line in lines if line.kind == 'Exchange'] == ['exchange in float16', *['exchange'] * 3]


@pytest.mark.parametrize('columns, conv3', [(1, None), (4, 3 * 3 * 3 * 32)])
def test_exchanges_of_other_numbers_of_columns(columns, conv3, workdir):
    config = digits.get_config()
    config.columns = columns
    found = column_exchanges(lines_of(typed(config)), columns, 4)
    assert [one.values for one in found[:1]] == ([] if columns == 1 else [conv3])
    said = words(written(workdir, config))
    assert ('nothing is exchanged' in said) == (columns == 1) and ('from the others' in said) == (columns == 4)


@pytest.mark.parametrize('text', ['', '{', '[]', '{"views": {}}', json.dumps(EVALUATION | {'views': {'ten': {}}})])
def test_damaged_evaluation(text, workdir):
    (workdir / 'eval.json').write_text(text)
    with pytest.raises(UserError, match=r'eval\.json is damaged.*--mode=eval'):
        written(workdir)


def test_a_report_that_cannot_be_written(workdir):
    (workdir / 'report.html').mkdir()
    with pytest.raises(UserError, match=r'report\.html cannot be written'):
        written(workdir)


def test_pictures_of_early_runs_are_shown_under_their_old_names(tmp_path):
    assert picture(tmp_path, 'neighbors') is None
    (tmp_path / 'neighbours.png').write_bytes(b'old')
    old = picture(tmp_path, 'neighbors')
    assert base64.b64decode(old.split(',')[1]) == b'old'
    (tmp_path / 'neighbors.png').write_bytes(b'new')
    assert base64.b64decode(picture(tmp_path, 'neighbors').split(',')[1]) == b'new'
    (tmp_path / 'colour.svg').write_text(SVG)
    assert picture(tmp_path, 'color').startswith('data:image/svg+xml')


def test_shares_of_color_of_early_runs(workdir):
    early = [line | {'colour_column1': 0.25, 'colour_column2': 0.5} for line in METRICS]
    (workdir / 'metrics.jsonl').write_text(''.join(json.dumps(line) + '\n' for line in early))
    assert rows(written(workdir), 'kernels')[1:] == [['column 1', '0.250', '2.05'], ['column 2', '0.500', '2.05']]


# In a browser.


LOOK = """() => ({
  images: [...document.images].map(image => image.naturalWidth),
  across: document.documentElement.scrollWidth, window: window.innerWidth,
  headings: [...document.querySelectorAll('h1, h2')].map(heading => heading.textContent),
  beyond: [...document.querySelectorAll('p, h1, h2, h3, nav, .facts, figcaption, summary')]
    .filter(part => part.getBoundingClientRect().right > window.innerWidth).map(part => part.textContent),
  page: getComputedStyle(document.body).backgroundColor, text: getComputedStyle(document.body).color,
  cards: [...document.querySelectorAll('figure .scroll')].map(card => getComputedStyle(card).backgroundColor),
  network: document.querySelector('.network img')?.currentSrc,
  unscoped: document.querySelectorAll('th:not([scope])').length,
})"""
HEADINGS = ['What was run', 'Learning', 'Results beside the paper’s', 'First-layer kernels (Figure 3)']  # noqa: RUF001
HEADINGS += ['Predictions (Figure 4)', 'Network (Figure 2)']


@pytest.mark.parametrize('pictures', [True, False], ids=['whole', 'metrics alone'])
def test_a_browser_shows_it(pictures, browser, workdir):
    run = workdir / ('a' * 60) / 'b c'
    run.mkdir(parents=True)
    config = digits.get_config()
    config.name = 'a_name_without_a_blank_that_is_longer_than_a_telephone_is_wide'
    fill(run, pictures=pictures)
    written(run, config)
    address = (run / 'report.html').as_uri()
    for width, height in ((1280, 900), (360, 740)):
        for scheme in ('light', 'dark'):
            page = browser.new_page(viewport={'width': width, 'height': height}, color_scheme=scheme)
            said, asked = [], []
            page.on('console', lambda message, said=said: said.append(message.text))
            page.on('pageerror', lambda error, said=said: said.append(str(error)))
            page.on('request', lambda request, asked=asked: asked.append(request.url))
            page.goto(address)
            page.evaluate("for (const part of document.querySelectorAll('details')) part.open = true")
            seen = page.evaluate(LOOK)
            page.close()
            assert said == []
            assert [url for url in asked if not url.startswith('data:')] == [address]
            assert len(seen['images']) == (7 if pictures else 0) and min(seen['images'], default=1) > 0
            assert seen['across'] <= seen['window'] == width and seen['beyond'] == []
            if pictures:
                shown = base64.b64decode(seen['network'].split(',')[1])
                assert (b'narrow' in shown) == (width == 360)
            assert seen['headings'] == [f'{config.name}: report of a run', *HEADINGS]
            assert seen['unscoped'] == 0 and set(seen['cards']) <= {'rgb(255, 255, 255)'}
            page_light, text_light = (sum(map(int, re.findall(r'\d+', seen[part]))) for part in ('page', 'text'))
            assert (page_light > text_light) == (scheme == 'light') and abs(page_light - text_light) > 500
