"Tables, figures and the page that are made of a study's results.json, and of nothing else."
import copy
import json
import re
import subprocess
import sys
from html import unescape

import pytest
from conftest import ROOT
from matplotlib.figure import Figure

from ltnb.sources import load_split
from ltnb.report import (ADDED, CLAIMS, LADDER, accuracy_table, claim, claims_table, conclusions, draw_accuracy, draw_counts, draw_gains,
                         draw_histogram, draw_ladder, draw_recall, filter_table, gain_table, gap_recovered,
                         generator_table, rarest_group, report, verdict)
from ltnb.show import Table, png

RECORDED, FASHION = (json.loads((ROOT / f'nbs/recorded/{name}/study.json').read_text()) for name in ('digits', 'fashion'))
IMAGES = load_split('digits').test.images
PICTURES, PAIRS = png(IMAGES[:7], 4), png(IMAGES[:6], 3)
SCRIPT = re.search(r'<script>.*?</script>', (ROOT / 'ltnb/report.html').read_text(), re.S)[0]


@pytest.fixture
def results():
    r = copy.deepcopy(RECORDED)
    r['pictures'] = dict(tail={c: {'real': PICTURES, 'ddpm': PICTURES, 'cbdm+filter': PICTURES} for c in '456789'},
                         kinds={c: dict(ID=PICTURES, OOD=PICTURES) for c in '6789'},
                         missed={c: dict(ddpm=dict(picture=PAIRS, missed=12, of=60), cbdm=dict(picture=None, missed=0, of=60))
                                 for c in '0123456789'})
    return r


def words(page):
    page = re.sub(r'<(style|script)>.*?</\1>|<svg.*?</svg>', '', page, flags=re.S)
    return ' '.join(unescape(re.sub(r'<[^>]*>', ' ', page)).split())

def charts(page): return page.count('<div class=wide>')

def axis(draw, results):
    ax = Figure().subplots()
    draw(results, ax)
    return ax


def test_the_page_needs_nothing_else(results):
    page = report(results)
    assert page.startswith('<!doctype html>') and charts(page) == page.count('<div class=narrow>') == 7
    assert page.count('data:image/png') == 6*3 + 4*2 + 10
    assert not re.findall(r'(?:src|href)="(?!data:image/png;base64,|#)|(?:url\(|@import)(?!#)|<link|<iframe', page)
    assert re.findall(r'<script.*?</script>', page, re.S) == [SCRIPT] and len(SCRIPT.splitlines()) < 50
    assert page == report(json.loads(json.dumps(results)))      # and the same results make the same page


def test_the_page_says_what_the_results_say(results):
    text = words(report(results))
    tables = [f(results) for f in (generator_table, filter_table, accuracy_table, gain_table)]
    for table in [*tables, generator_table(results, 'overall')]:
        assert isinstance(table, Table)
        for line in repr(table).splitlines(): assert ' '.join(line.split()) in text
    d = results['dataset']
    assert f"{sum(d['train_counts'])} training images of 10 classes, from 114 down to 5 " in text
    assert 'down to 5 (profile exp, imbalance factor 20); 600 test images' in text
    assert d['split_sha256'] in text and f"seeds: {results['seeds']}" in text and 'real, held out' in text
    assert 'DDPM' in text
    assert 'The paper has overall 38.3, 46.6, 49.7, 50.3 and 51.5 % for these five on' in text
    for sentence in conclusions(results): assert ' '.join(sentence.split()) in text
    assert text.index('DDPM reaches') < text.index('The tail') < text.index('What each classifier gains') < text.index('1 · Collapse')
    assert 'poor' not in text
    results['settings']['preset'] = 'tiny'
    assert 'images and accuracies are poor' in words(report(results))


def test_changed_figures_change_the_tables(results):
    results['generators']['cbdm']['few']['recall'] = .123
    assert generator_table(results)[1] == dict(generator_table(RECORDED)[1], recall=.123)
    results['classifiers']['sau']['few']['mean'] += 1
    assert accuracy_table(results) != accuracy_table(RECORDED)
    assert gap_recovered(results, 'sau') > gap_recovered(RECORDED, 'sau')
    results['classifiers']['sau']['few']['values'][0] += 1
    assert claim(results, 'sau', 'ce')['mean'] > claim(RECORDED, 'sau', 'ce')['mean']
    assert gain_table(results) != gain_table(RECORDED)


@pytest.mark.parametrize('real', ['held-out test images', 'balanced training set'])
def test_the_page_says_which_real_images_samples_are_compared_with(results, real):
    r = json.loads(json.dumps(results))
    r['settings']['metrics']['real'] = real
    page = ' '.join(report(r).split())
    assert f'A real image ({real}) is reached' in page and f'the share of real images ({real})' in page


def test_draws_are_said_and_a_gain_is_over_them(results):
    text = words(report(results))
    assert '600 test images; 1 draw of the long tail, 5 classifier seeds, 3 generator seeds' in text
    assert 'paired t-test over classifier seeds' in text
    results |= dict(draws=['ldam', 1, 2], seeds=[0, 1])
    results['classifiers'] = {row: results['classifiers'][row] for row in ('ce', 'sau')}
    for row, values in dict(ce=[0.]*6, sau=[1., 3., 4., 4., 10., 8.]).items():
        results['classifiers'][row]['few']['values'] = values
    gain = claim(results, 'sau', 'ce')        # means of the draws 2, 4, 9: t(2) at 97.5 % is 4.3027
    assert gain['mean'] == 5 and gain['high'] == pytest.approx(5 + 4.3027 * (13 / 3)**.5, abs=1e-3)
    assert 'nothing of other training images' in text
    text = words(report(results))
    assert 'nothing of other training images' not in text
    assert '3 draws of the long tail, 2 classifier seeds' in text and 'paired t-test over draws' in text
    assert "draws: ['ldam', 1, 2]".replace("'", '"') in text


def test_of_a_chosen_tau_the_table_has_both_figures(results):
    assert 'tau' not in accuracy_table(results)[0]
    for group in 'few', 'accuracy':
        s = results['classifiers']['sau'][group]
        results['classifiers']['sau'][group] = dict(s, mean=90., chosen=dict(tau=1.25, rho=.1), published=s)
    row, = (row for row in accuracy_table(results) if row['classifier'] == 'sau')
    was, = (row for row in accuracy_table(RECORDED) if row['classifier'] == 'sau')
    assert row['tau'] == '1.25' and row['few, published'] == was['few'] != row['few'] and row['few'].startswith('90.0 ± ')


@pytest.mark.parametrize('counts, group', [([114, 19], 'few'), ([114, 20], 'medium'), ([102, 101], 'many')])
def test_the_rarest_group_is_that_of_the_smallest_class(counts, group):
    assert rarest_group(dict(dataset=dict(train_counts=counts, test_counts=[9] * len(counts)))) == group


def test_without_few_shot_classes_all_is_said_of_the_medium_ones():
    results = copy.deepcopy(FASHION)
    results['dataset']['train_counts'] = [max(n, 20) for n in FASHION['dataset']['train_counts']]
    for part in results['generators'], results['classifiers']:
        for of in part.values(): of['few'] = None
    for of in results['generators'].values(): of['values']['few'] = None
    here, there = (next(row for row in accuracy_table(r) if row['classifier'] == 'sau+adjusted') for r in (results, FASHION))
    assert here['few'] is None and here['medium, published'] != here['medium'] == there['medium'] and 'few, published' not in here
    for row, base, metric in CLAIMS.values():
        assert claim(results, row, base, metric) == claim(FASHION, row, base, metric, 'medium')
    assert claims_table(results) != claims_table(FASHION)
    assert all(row['of the gap'] for row in gain_table(results))
    text = words(report(results))
    assert 'few, published' not in text and 'medium, published' in text


def test_a_class_without_test_images_is_in_no_group():
    assert rarest_group(dict(dataset=dict(train_counts=[114, 5], test_counts=[9, 0]))) == 'many'


def test_without_an_oracle_no_gap_is_recovered(results):
    assert 0 < gap_recovered(results, 'sau') < 1 == gap_recovered(results, 'oracle')
    del results['classifiers']['oracle']
    assert gap_recovered(results, 'sau') is None and gain_table(results)[0]['of the gap'] is None
    assert axis(draw_ladder, RECORDED).get_legend() and not axis(draw_ladder, results).get_legend()
    assert charts(report(results)) == 7


def test_five_generators_are_five_lines_of_every_figure(results):
    for name in 'fourth', 'fifth':
        results['generators'][name] = copy.deepcopy(results['generators']['ddpm'])
        results['filters'][f'{name}+diffult'] = dict(results['filters']['ddpm+diffult'], generator=name)
    assert [line.get_label() for line in axis(draw_recall, results).lines] == list(results['generators'])
    assert len(axis(draw_histogram, results).patches) == 5
    page = report(results)
    assert all(f'<td>{name}</td>' in page for name in results['generators'])


def test_other_generators_than_todays_and_none_at_all(results):
    results['generators'] = dict(mine=results['generators']['ddpm'])
    results['filters'] = {}
    page = report(results)
    assert '<td>mine</td>' in page and charts(page) == 6 and 'd_f' not in page     # no filter, no histogram
    results['generators'] = {}
    assert charts(report(results)) == 4


@pytest.mark.parametrize('left_out, said', [
    (['ce+cbdm+aid'], '38.3, 46.6, 50.3 and 51.5 % for these four on CIFAR-100-LT '
                      '(imbalance factor 100, ResNet-32 of width 16); an independent'),
    (['ce+cbdm+aid+diffult+weight'],
     '38.3, 46.6, 49.7 and 50.3 % for these four on CIFAR-100-LT (imbalance factor 100, ResNet-32 of width 16). '),
    (['ce', 'ce+cbdm'], '49.7, 50.3 and 51.5 % for these three')])
def test_rungs_of_the_ladder_that_were_not_trained_are_left_out(results, left_out, said):
    for name in left_out: del results['classifiers'][name]
    assert len(axis(draw_ladder, results).get_xticks()) == len(LADDER) - len(left_out)
    assert said in words(report(results))


@pytest.mark.parametrize('kept, there', [(['ce'], 5), (['sau', 'oracle'], 5), ([], 4), (['ce', 'ce+cbdm'], 6)])
def test_two_rungs_are_no_ladder(results, kept, there):
    results['classifiers'] = {name: results['classifiers'][name] for name in kept}
    page = report(results)
    assert charts(page) == there and 'ladder' not in page
    assert ('gains over cross-entropy' in page) == bool(gain_table(results)) == (len(kept) == 2 and 'ce' in kept)


def test_results_without_pictures_have_a_page_without_strips(results):
    del results['pictures']
    page = report(results)
    assert 'data:image/png' not in page and 'in the order in which they were drawn' not in page and 'Missed modes' not in page
    results['generators']['cbdm'].pop('intervals')      # as those of several machines have none
    assert 'of that recall' in report(results)
    for g in results['generators'].values(): g['intervals'] = None
    assert 'of that recall' not in report(results)


def poison(r, where):
    bad = f'"><script>alert("{where}")</script>\'$&'
    if where == 'class_names':
        r['dataset']['class_names'] = [bad + c for c in r['dataset']['class_names']]
        r['pictures'] = {k: {bad + c: of for c, of in v.items()} for k, v in r['pictures'].items()}
    if where in ('name', 'profile', 'split_sha256'): r['dataset'][where] = bad
    if where == 'machine': r['machine'] = {bad: bad}
    if where == 'settings': r['settings'][bad] = bad
    if where == 'features': r['settings']['metrics']['features'] = bad
    if where == 'pictures':
        for k in 'tail', 'kinds': r['pictures'][k][bad] = {bad: bad, 'ddpm': PICTURES}
    if where == 'missed':
        r['pictures']['missed'][bad] = {bad + str(i): dict(picture=x, missed=1, of=2) for i, x in enumerate((bad, PAIRS))}
    if where in ('generators', 'classifiers', 'filters'): r[where] = {bad + k: v for k, v in r[where].items()}
    if where in ('training_set', 'method'): r['classifiers']['sau'][where] = bad
    if where == 'rule': r['filters']['cbdm+filter']['rule'] = bad


@pytest.mark.parametrize('places', [
    ['class_names', 'name', 'profile', 'split_sha256', 'machine', 'settings', 'features', 'pictures', 'missed', 'training_set',
     'method', 'rule'], ['generators', 'classifiers', 'filters']], ids=['values', 'names'])
def test_whatever_comes_from_the_results_is_escaped(results, places):
    for where in places: poison(results, where)
    page = report(results)
    assert page.replace(SCRIPT, '').count('<script') == 0
    for where in places: assert re.search(rf'&lt;script&gt;alert\(\\?(&#34;|&quot;|"){where}', page), where


def test_many_classes_are_not_named(results):
    d = results['dataset']
    d['train_counts'], d['class_names'] = d['train_counts'] * 3, d['class_names'] * 3
    assert len(axis(draw_counts, results).patches) == 30
    assert all(t.get_text() != '9' for t in axis(draw_counts, results).get_xticklabels())


# ---- pictures

def test_the_wall_shows_the_rarest_first_and_folds_the_rest(results):
    text = words(report(results))
    wall = text[text.index('The tail'):text.index('What each classifier')]
    assert 'class real, held out DDPM CBDM, filtered 9 5 training images' in wall
    assert f"recall {results['generators']['ddpm']['per_class'][9]['recall']:.2f}" in wall
    assert wall.index('9 5 training') < wall.index('5 21 training') < wall.index('1 more classes') < wall.index('4 30 training')
    del results['pictures']['tail']['9']['ddpm']
    assert 'none' in words(report(results))


def test_the_missed_modes_of_each_class_are_there_and_in_the_list(results):
    page = report(results)
    options = re.findall(r'<option>(.*?)</option>', page)
    assert len(options) == 10 and options[0] == '9: 5 training images · DDPM misses 12 of 60 · CBDM misses 0 of 60'
    assert page.count('<section class=modes') == 10 and 'DDPM misses 12 of 60 (recall 0.80)' in page
    assert page.count(PAIRS) == 10


def test_pictures_stand_at_one_scale_whatever_they_hold(results):
    for of in results['pictures']['tail'].values(): of['real'] = png(IMAGES[:8])      # a row of eight, as older studies have it
    page = report(results)
    assert f'width="{round((8*9 - 1)*5.5) + 8}" height="{8*5.5 + 8:.0f}"' in page
    assert f'width="{round((4*9 - 1)*5.5) + 8}" height="{round((2*9 - 1)*5.5) + 8}"' in page


@pytest.mark.parametrize('uri', ['https://example.org/a.png', 'data:image/svg+xml,<svg onload="x">', 'data:image/png;base64,short', None, 3])
def test_what_is_no_picture_within_the_file_is_never_loaded(results, uri):
    for of in results['pictures']['tail'].values(): of['real'] = uri
    page = report(results)
    assert page.count('data:image/png') == 6*2 + 4*2 + 10 and 'example.org' not in page and 'onload' not in page


# ---- the chart of gains

def test_a_gain_stands_beside_the_tau_that_it_was_measured_at(results):
    said = {row['classifier']: row['how it learns'] for row in gain_table(FASHION)}
    assert said['sau+adjusted'] == 'SAU, logits adjusted by 1.25, chosen' and said['la+adjusted'].endswith('adjusted by 0.25, chosen')
    assert said['sau'] == 'SAU' and FASHION['classifiers']['ce+adjusted']['few']['published'] != FASHION['classifiers']['ce+adjusted']['few']['mean']
    fixed = {row['classifier']: row['how it learns'] for row in gain_table(results)}     # a study without a choice
    assert fixed['ce+adjusted'] == results['classifiers']['ce+adjusted']['method'] == 'cross-entropy, logits adjusted by 1'

def test_the_chart_of_gains_says_what_the_table_says():
    ax = axis(draw_gains, FASHION)
    rows = [t.get_text() for t in ax.get_yticklabels()]
    assert rows == [row['classifier'] for row in gain_table(FASHION)]
    bottom, top = ax.get_ylim()
    assert bottom > top     # the first above
    drawn = {y: x for line in ax.lines if line.get_marker() in 'os^' for x, y in zip(*line.get_data())}
    ranges = {line.get_ydata()[0]: tuple(line.get_xdata()) for line in ax.lines if line.get_linewidth() == 2}
    for y, name in enumerate(rows):
        d = claim(FASHION, name, 'ce')
        assert drawn[y] == d['mean'] and ranges[y] == (d['low'], d['high'])
    colors = {y: line.get_color() for line in ax.lines if line.get_marker() in 'os^' for y in line.get_ydata()}
    assert colors[rows.index('la')] == colors[rows.index('ce+adjusted')] != colors[rows.index('sau')] == colors[rows.index('ce+ddpm')]
    assert any(set(line.get_xdata()) == {0} for line in ax.lines)


def test_one_seed_has_no_spread(results):
    results['classifiers']['ce']['few']['values'] = results['classifiers']['ce']['few']['values'][:1]
    row = next(r for r in accuracy_table(results) if r['classifier'] == 'ce')
    assert '±' not in row['few'] and float(row['few']) and '±' in row['many']


def test_gains_without_intervals_are_points(results):
    results['seeds'] = [0]
    for c in results['classifiers'].values(): c['few']['values'] = c['few']['values'][:1]
    ax = axis(draw_gains, results)
    assert all(None in line.get_xdata() or len(set(line.get_xdata())) < 2 for line in ax.lines if line.get_linewidth() == 2)
    assert charts(report(results)) == 7


def test_the_chart_of_accuracy_has_a_point_for_each_group_that_has_classes(results):
    results['classifiers']['ce']['many'] = None
    points = sum(len(line.get_xdata()) for line in axis(draw_accuracy, results).lines)
    assert points == 3 * len(results['classifiers']) - 1


# ---- conclusions

def plain(sentence): return sentence.replace('\N{NO-BREAK SPACE}', ' ').replace('−', '-')

@pytest.mark.parametrize('results', [RECORDED, FASHION], ids=['digits', 'fashion'])
def test_the_three_sentences_say_what_the_tables_say(results):
    seen, added, best = map(plain, conclusions(results))
    for row in (r for r in generator_table(results) if r['generator'] in results['generators']):
        assert f"{row['generator'].upper()} reaches {row['recall']:.0%}".replace('%', ' %') in seen
        assert f"{row['class consistency']:.0%} of {row['generator'].upper()}'s".replace('%', ' %') in seen
    gains = {row['classifier']: row['gain'] for row in gain_table(results)}
    for name in ADDED:
        gain, interval = gains[name].rstrip(')').split(' (')
        said, = re.findall(rf'{re.escape(gain)} points \([^()]*?{re.escape(interval)}; ([a-z ]+)\)', added)
        assert said == verdict(claim(results, name, 'ce'), 'they help', 'they harm')
    base = 'la+adjusted' if 'la+adjusted' in results['classifiers'] else 'ce+adjusted'
    d = claim(results, 'sau+adjusted', base)
    assert f"{d['mean']:+.1f} points" in best and f"{d['low']:+.1f} to {d['high']:+.1f}; {verdict(d, 'the first wins', 'the second wins')})" in best
    for name in 'sau+adjusted', base: assert f"{results['classifiers'][name]['few']['mean']:.1f} %" in best
    assert ('3 draws' if 'draws' in results else '5 classifier seeds') in best


def test_verdicts_are_open_up_to_zero_itself():
    said = [verdict(dict(low=low, high=high)) for low, high in [(0., 2.), (-1., 1.), (-2., 0.), (None, None), (.1, 2.), (-2., -.1)]]
    assert said == ['open'] * 4 + ['holds', 'the opposite holds']


@pytest.mark.parametrize('change, said', [(30., 'the first wins'), (-30., 'the second wins'), (0., 'open')])
def test_other_figures_make_other_sentences(change, said):
    results = copy.deepcopy(FASHION)
    for name in 'sau+adjusted', 'ce+cbdm+filter':
        results['classifiers'][name]['few']['values'] = [v + change for v in results['classifiers'][name]['few']['values']]
    _, added, best = conclusions(results)
    assert best.endswith(f'{said}).') and (change <= 0 or 'they help' in added)


def test_no_row_is_picked_by_its_test_accuracy():
    results = copy.deepcopy(FASHION)
    results['classifiers']['best'] = copy.deepcopy(results['classifiers']['oracle']) | dict(training_set='real + CBDM', method='SAU')
    for name in 'ce+ddpm+adjusted', 'ce+adjusted':      # better than the two that are compared
        for k in 'mean', 'values': results['classifiers'][name]['few'][k] = results['classifiers']['oracle']['few'][k]
    assert conclusions(results) == conclusions(FASHION)


def one_class(r):
    r['dataset'] |= dict(train_counts=[5], test_counts=[60], class_names=['9'], num_classes=1)
    for g in r['generators'].values():
        for k in 'many', 'medium': g[k] = dict.fromkeys(g[k])
        g['per_class'] = g['per_class'][-1:]
    for c in r['classifiers'].values(): c |= dict(many=None, medium=None)
def no_few(r): r['dataset']['train_counts'] = [max(n, 20) for n in r['dataset']['train_counts']]
def no_oracle(r):
    del r['classifiers']['oracle']
    for g in r['generators'].values():
        for k in 'few', 'many', 'overall': g[k]['class_consistency'] = None
def only_ce(r): r['classifiers'] = {'ce': r['classifiers']['ce']}
def no_ce(r): r['classifiers'] = {'sau': r['classifiers']['sau']}
def one_seed(r):
    r |= dict(seeds=[0], draws=['ldam'])
    for c in r['classifiers'].values():
        for k in 'few', 'medium', 'many', 'accuracy': c[k]['values'] = c[k]['values'][:1]
    for g in r['generators'].values():
        for of in g.get('values', {}).values():
            for k, v in of.items(): of[k] = v and v[:1]
def tiny(r): r['settings']['preset'] = 'tiny'
def no_generator(r): r |= dict(generators={}, filters={})
def no_recall(r):
    for g in r['generators'].values():
        for k in 'few', 'many': g[k]['recall'] = None
        for of in g.get('values', {}).values(): of['recall'] = None
def five_generators(r): r['generators'] |= {name: copy.deepcopy(r['generators']['ddpm']) for name in ('third', 'fourth', 'fifth')}
def others(r):
    c = r['classifiers']
    r['classifiers'] = {'ce': c['ce'], 'mine': c['ce+cbdm'] | dict(training_set='real + MINE')}

@pytest.mark.parametrize('base', [RECORDED, FASHION], ids=['digits', 'fashion'])
@pytest.mark.parametrize('change, said', [
    (one_class, ['under 20 training images; CBDM', 'points', 'points']), (no_few, ['20 to 100', 'points', 'points']),
    (no_oracle, ['points', 'points', 'points']), (only_ce, ['points', 'was not trained on generated', 'neither']),
    (no_ce, ['points', 'alone was not trained', 'neither']), (one_seed, ['no interval over 1 ', 'no interval over 1 classifier seed of one draw; open', 'open']),
    (tiny, ['say nothing about the methods', 'points', 'points']), (no_generator, ['nothing is said of collapse', 'points', 'points']),
    (no_recall, ['what DDPM reaches is not known', 'points', 'points']), (five_generators, ['more are in the table', 'points', 'points']),
    (others, ['points', 'those of MINE by', 'neither'])], ids=lambda x: getattr(x, '__name__', ''))
def test_of_whatever_study_there_are_three_sentences_and_a_page(base, change, said):
    results = copy.deepcopy(base)
    if change is one_seed: results['generator_seeds'] = [0]
    change(results)
    told = conclusions(results)
    assert len(told) == 3 and all(text in sentence for text, sentence in zip(said, told)), told
    for sentence in told:
        assert sentence.endswith('.') and not re.search(r'None|nan|  |\.\.| \.', sentence)
        if change is no_oracle: assert 'a classifier of all' not in sentence
    assert words(report(results)).count(' '.join(told[1].split())) == 1


def test_long_names_of_classes_stand_upright_and_have_room(results):
    rotations = lambda: {t.get_rotation() for t in axis(draw_recall, results).get_xticklabels()}
    assert rotations() == {0.}
    plain = report(results)
    results['dataset']['class_names'] = [c + ' which is an antelope of the savanna' for c in results['dataset']['class_names']]
    assert rotations() == {90.} and axis(draw_recall, results).get_xticklabels()[9].get_text() == '9 which is an antelope …\n(5)'
    height = lambda page: float(re.search(r'aria-label="recall of each class".*?height="([\d.]+)pt"', page, re.S)[1])
    assert height(report(results)) > height(plain) + 100


def test_the_report_is_imported_without_torch_matplotlib_and_the_study():
    code = ("import sys, ltnb.show, ltnb.report; "
            "assert not {'torch', 'matplotlib', 'PIL', 'jinja2', 'ltnb.study'} & set(sys.modules)")
    subprocess.run([sys.executable, '-c', code], check=True)


def made_results(name, **few): # rows of three draws with one seed each
    return dict(dataset=dict(name=name, image_size=8, train_counts=[114, 5], test_counts=[9, 9]), draws=['ldam', 1, 2], generators={
        'ddpm': dict(values=dict(few=dict(recall=[.5, .5, .6], coverage=[.4, .4, .5], class_consistency=[.7, .7, .7]))),
        'cbdm': dict(values=dict(few=dict(recall=[.6, .61, .7], coverage=[.3, .4, .4], class_consistency=[.6, .8, .7])))},
        classifiers={row: dict(few=dict(values=v)) for row, v in few.items()})


def test_a_claim_holds_where_its_whole_interval_is_above_zero():
    a = made_results('a', ce=[30., 40., 35.], **{'ce+ddpm': [33., 43.2, 38.1], 'ce+cbdm': [25., 34.8, 30.], 'sau': [50., 20., 35.]})
    b = made_results('b', ce=[30., 40., 35.], sau=[50., 20., 35.], la=[50., 20., 34.5])
    table = {row['claim']: row for row in claims_table(a, b)}
    assert table["DDPM's samples help cross-entropy"] == {
        'claim': "DDPM's samples help cross-entropy", 'a, 8×8': '+3.1 (+2.9 to +3.3): holds', 'b, 8×8': None}
    assert table["CBDM's samples help cross-entropy"]['a, 8×8'].endswith(': the opposite holds')
    assert table['SAU beats balanced softmax on the real images']['b, 8×8'].endswith(': open')
    assert table['CBDM comes near more of the real rare images than DDPM (recall)']['a, 8×8'].startswith('+0.10 (+')
    assert set(table) == set(CLAIMS)
    assert claim(a, 'ce+cbdm', 'ce')['mean'] == pytest.approx(-5.0667, abs=1e-3)
    one, = [row['a'] for row in claims_table(a | dict(draws=['ldam'])) if row['claim'] == "DDPM's samples help cross-entropy"]
    assert one == '+3.1 (+2.9 to +3.3)', 'seeds of one draw give no verdict'
