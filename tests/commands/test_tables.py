"""Tables in consoles of every width: no figure is cut, and names may be anything."""

import io

import pytest
from rich.console import Console

from alexnet_jax.commands import compare, evaluate, figure1, inspect, neighbors, profile
from alexnet_jax.commands.tables import add_row, new_table
from alexnet_jax.config import Config
from alexnet_jax.runs.eval_json import Evaluation, ViewErrors

FIGURES = ['60,965,224', '12.34% / 5.67%', '-0.123', '1,234,567,890']
NAME = 'a run of quite a long name in a/directory/of/directories, step 12,345'


def made():
    table = new_table(
        'A title of some length', 'What it means, at length.', ['run', 'views'], ['one', 'two\nlines', 'a', 'b']
    )
    add_row(table, NAME, 'center', *FIGURES, style='bold')
    table.add_section()
    add_row(table, '[red]x[/b]', '', *reversed(FIGURES))
    return table


def printed(what, width):
    console = Console(file=io.StringIO(), width=width)
    console.print(what)
    return console.file.getvalue()


@pytest.mark.parametrize('width', [20, 30, 37, 50, 60, 72, 80, 100, 120, 200, 300])
def test_figures_are_whole_at_any_width(width):
    text = printed(made(), width)
    for figure in FIGURES:
        assert text.count(figure) == 2, text
    assert '…' not in text and '[red]x[/b]' in text
    assert max(map(len, text.splitlines())) <= width
    assert ''.join(NAME.split()) in ''.join(text.split()) or width >= 72  # there it is folded beside other columns


def test_it_is_a_table_where_there_is_room_and_blocks_where_there_is_not():
    assert '───' in printed(made(), 100) and 'run: ' not in printed(made(), 100)
    narrow = printed(made(), 40)
    assert '───' not in narrow and '  two lines: 12.34% / 5.67%' in narrow.splitlines()


def test_every_table_of_the_software_is_of_this_kind():
    views = {'ten': ViewErrors(loss=1.0, top1_error=0.00833, top5_error=0.25, patches=5)}
    result = Evaluation(step=12, epoch=1, source='digits', split='validation', examples=360, classes=10, views=views)
    text = printed(evaluate.results_table(result, 'digits'), 30)
    assert '0.83%' in text and '25.00%' in text and 'five, not mirrored' in text
    layers = printed(inspect._layers_table(Config()), 30)
    assert all(figure in layers for figure in ('60,965,224', '37,748,736'))
    for module in (compare, evaluate, figure1, inspect, neighbors, profile):
        assert module.new_table is new_table


def test_five_guesses_of_five_classes_cannot_miss():
    views = {'center': ViewErrors(top1_error=0.25, top5_error=0.0)}
    for classes, shown in ((2, '-'), (5, '-'), (6, '0.00%'), (None, '0.00%')):
        result = Evaluation(step=1, source='folder', split='validation', examples=8, classes=classes, views=views)
        row = next(line for line in printed(evaluate.results_table(result, 'x'), 100).splitlines() if '25.00%' in line)
        assert row.split()[-1] == shown
