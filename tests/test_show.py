"How images, curves and tables are shown."
import base64
import io
import re
from itertools import islice

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from PIL import Image

from ltnb.sources import load_split
from ltnb.show import Table, as_svg, beside, check, line_styles, plot_counts, png, png_size, show_class, show_images, tiles


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close('all')


def images(n, channels):
    return torch.randint(0, 256, (n, channels, 4, 5), dtype=torch.uint8, generator=torch.Generator().manual_seed(n))


@pytest.mark.parametrize('channels', [1, 3])
def test_images_stand_in_rows_one_white_pixel_apart(channels):
    x = images(5, channels)
    canvas = tiles(x, 3)
    assert canvas.shape[:2] == (2*5 - 1, 3*6 - 1) and canvas.dtype == np.uint8
    canvas = canvas.reshape(9, 17, channels)
    for i in range(5):
        top, left = i // 3 * 5, i % 3 * 6
        assert (canvas[top:top + 4, left:left + 5] == x[i].permute(1, 2, 0).numpy()).all()
    # between them, and where none is left
    assert (canvas[4] == 255).all() and (canvas[:, 5] == 255).all() and (canvas[5:, 12:] == 255).all()


@pytest.mark.parametrize('channels, mode', [(1, 'L'), (3, 'RGB')])
def test_a_png_holds_the_very_pixels(channels, mode):
    x = images(3, channels)
    head, data = png(x).split(',')
    im = Image.open(io.BytesIO(base64.b64decode(data)))
    assert head == 'data:image/png;base64' and im.mode == mode and (np.asarray(im) == tiles(x, 3)).all()
    assert png_size(png(x)) == im.size == (17, 4) and png_size(png(x, 2)) == (11, 9)


def test_only_a_png_within_the_text_has_a_size():
    good = png(images(1, 1))
    for bad in good + '"', good.replace('png', 'gif'), ' ' + good, good[:40], 'https://example.org/a.png', '', None, 3: assert png_size(bad) is None


def test_a_chart_has_the_ink_of_its_page_words_that_are_words_and_is_the_same_again():
    def draw(ax): ax.plot([0, 1], label='<b>&'), ax.legend(), ax.set_xlabel('steps')
    chart = as_svg(draw, 'a "line"', (3, 2), 9)
    assert chart == as_svg(draw, 'a "line"', (3, 2), 9) and 'aria-label="a &quot;line&quot;"' in chart
    assert '>steps</text>' in chart and '&lt;b&gt;&amp;</text>' in chart and chart.count('currentColor') > 3
    assert set(re.findall(r'font(?:-size)?: ([\d.]+)px', chart)) == {'9'} and 'metadata' not in chart
    assert plt.rcParams['svg.fonttype'] == 'path'       # which others may rely on


def test_images_and_counts_are_drawn_on_an_axis_of_ones_own_or_a_new_one():
    split = load_split('digits')
    _, ax = plt.subplots()
    assert show_images(split.test.images[:3], ax=ax) is ax and plot_counts(split, ax) is ax
    assert show_class(split, 9).get_title('left') == '9: 5 training images (few)'
    assert sum(len(bars) for bars in plot_counts(split).containers) == 10


def test_names_of_classes_are_no_formulas():
    split = load_split('digits')
    split.class_names = ['$'] * 9 + [r'$\frac{$']
    ax = plot_counts(split)
    ax.figure.canvas.draw()
    assert len(ax.get_xticklabels()) == 10


def test_line_styles_never_run_out_and_can_be_told_apart():
    styles = list(islice(line_styles(), 1000))
    assert styles[:4] == ['o-', 's--', '^:', 'v-.'] and len(set(styles[:36])) == 36
    assert all(a != b for a, b in zip(styles, styles[1:]))
    lines = [plt.plot([0, 1], s)[0] for s in styles[:36]]
    assert len({(line.get_marker(), line.get_linestyle()) for line in lines}) == 36


ROWS = [dict(name='a', figure=1/3, images=1234, words='real'), dict(name='longer', figure=None, images=-7,
                                                                    words='3 more')]


def test_a_table_aligns_figures_to_the_right_and_words_to_the_left():
    assert repr(Table(ROWS)).splitlines() == ['name    figure  images  words', 'a         0.33   1,234  real',
                                              'longer       –      -7  3 more']
    assert Table(ROWS)._repr_markdown_().splitlines() == [
        '| name | figure | images | words |', '| --- | ---: | ---: | --- |', '| a | 0.33 | 1,234 | real |',
        '| longer | – | -7 | 3 more |']
    assert Table(ROWS).html().splitlines()[1:3] == [
        '<tr><th>name</th><th class=n>figure</th><th class=n>images</th><th>words</th></tr>',
        '<tr><td>a</td><td class=n>0.33</td><td class=n>1,234</td><td>real</td></tr>']


@pytest.mark.parametrize('cell, right', [('93.0 ± 0.5', True), ('+2.3 (-0.5 to +5.2)', True), ('33 %', True),
                                         ('–', True), ('', True), ('real', False), ('-', False)])
def test_a_figure_with_its_unit_or_interval_is_a_figure(cell, right):
    assert (' class=n' in Table([dict(name='a', cell=cell)]).html()) == right


def test_an_empty_table_says_so():
    assert (repr(Table()), Table()._repr_markdown_(), Table().html()) == ('(no rows)', '(no rows)', '')


def test_a_table_has_every_column_that_any_row_has():
    assert repr(Table([dict(a='x'), dict(a='y', b=1)])).splitlines() == ['a  b', 'x  –', 'y  1']


def test_a_table_never_shows_minus_nothing():
    assert '-0.00' not in repr(Table([dict(a='x', b=-.001)]))


def test_nothing_in_a_table_is_taken_for_markup():
    t = Table([{'<b>': '<script>alert(1)</script>', 'c': 'a|b', 'd': '"&'}])
    assert '<b>' not in t.html() and '<script' not in t.html() and '&lt;script&gt;' in t.html()
    assert '&quot;&amp;' in t.html()
    assert t._repr_markdown_().splitlines()[2] == r'| <script>alert(1)</script> | a\|b | "& |'


def test_jupyter_is_given_markdown_of_which_the_readme_is_made():
    from IPython.core.formatters import DisplayFormatter
    data, _ = DisplayFormatter().format(Table(ROWS))
    assert set(data) == {'text/plain', 'text/markdown'}


@pytest.mark.parametrize('answer, said', [(..., 'Your answer?'), (4, 'Right.'), (5, 'Not yet. A hint: fingers'),
                                          ('x', 'Not yet'), (None, 'could not be checked (TypeError')])
def test_an_exercise_says_whether_an_answer_is_right(capsys, answer, said):
    check(answer, (lambda a: a == 4) if answer is not None else (lambda a: a + 1 > 0), 'fingers')
    assert said in capsys.readouterr().out


def test_hints_become_plainer_and_a_property_that_fails_is_named(capsys):
    def right(a):
        if a <= 0: raise AssertionError('it is positive')      # pytest rewrites what `assert` says
        return a == 4
    for answer in -1, 5, 6, 4: check(answer, right, 'count', 'count on your fingers')
    assert capsys.readouterr().out.splitlines() == ['Not yet. What does not hold: it is positive. A hint: count',
                                                    *['Not yet. A hint: count on your fingers']*2, 'Right.']


@pytest.mark.parametrize('guess, shown, said', [
    (..., [None, None], 'No guess yet'), ((.5, 1), [.5, 1.], ''), (.5, [.5, None], '1 guesses for 2 results: a, b'),
    (('x', .5), [None, .5], '')])
def test_a_guess_stands_beside_the_result(capsys, guess, shown, said):
    rows = beside(guess, dict(a=.75, b=None))
    assert [r['your guess'] for r in rows] == shown and [r['result'] for r in rows] == [.75, None]
    assert rows[0]['result less guess'] == (None if shown[0] is None else .75 - shown[0])
    assert rows[1]['result less guess'] is None and capsys.readouterr().out.startswith(said)
