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
from ltnb.report import (CLAIMS, LADDER, accuracy_table, claim, claims_table, draw_counts, draw_histogram,
                         draw_ladder, draw_recall, filter_table, gain_over, gain_table, gap_recovered, generator_table, rarest_group,
                         report)
from ltnb.show import Table, png

RECORDED = json.loads((ROOT / 'nbs/recorded/digits/study.json').read_text())
PICTURES = png(load_split('digits').test.images[:3])


@pytest.fixture
def results():
    r = copy.deepcopy(RECORDED)
    r['pictures'] = dict(tail={c: dict(real=PICTURES, ddpm=PICTURES) for c in '6789'},
                         kinds={c: dict(ID=PICTURES, OOD=PICTURES) for c in '6789'})
    return r


def words(page):
    return ' '.join(unescape(re.sub(r'<[^>]*>', ' ', re.sub(r'<style>.*?</style>', '', page, flags=re.S))).split())

def axis(draw, results):
    ax = Figure().subplots()
    draw(results, ax)
    return ax


def test_the_page_needs_nothing_else(results):
    page = report(results)
    assert page.startswith('<!doctype html>') and page.count('<figure>') == 4 and page.count('data:image/png') == 4 + 16
    assert 'src="http' not in page and 'href' not in page and '<script' not in page
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
    assert gain_over(results, 'sau')['mean'] > gain_over(RECORDED, 'sau')['mean']
    assert gain_table(results) != gain_table(RECORDED)


def test_draws_are_said_and_a_gain_is_over_them(results):
    assert '600 test images; 1 draw of the long tail, 5 classifier seeds, 3 generator seeds' in words(report(results))
    assert 'paired t-test over classifier seeds' in words(report(results))
    results |= dict(draws=['ldam', 1, 2], seeds=[0, 1])
    results['classifiers'] = {row: results['classifiers'][row] for row in ('ce', 'sau')}
    for row, values in dict(ce=[0.]*6, sau=[1., 3., 4., 4., 10., 8.]).items():
        results['classifiers'][row]['few']['values'] = values
    gain = gain_over(results, 'sau')        # means of the draws 2, 4, 9: t(2) at 97.5 % is 4.3027
    assert gain['mean'] == 5 and gain['high'] == pytest.approx(5 + 4.3027 * (13 / 3)**.5, abs=1e-3)
    text = words(report(results))
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


def test_a_class_without_test_images_is_in_no_group():
    assert rarest_group(dict(dataset=dict(train_counts=[114, 5], test_counts=[9, 0]))) == 'many'


def test_without_an_oracle_no_gap_is_recovered(results):
    assert 0 < gap_recovered(results, 'sau') < 1 == gap_recovered(results, 'oracle')
    del results['classifiers']['oracle']
    assert gap_recovered(results, 'sau') is None and gain_table(results)[0]['of the gap'] is None
    assert axis(draw_ladder, RECORDED).get_legend() and not axis(draw_ladder, results).get_legend()
    assert report(results).count('<figure>') == 4


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
    assert '<td>mine</td>' in page and page.count('<figure>') == 3 and 'd_f' not in page     # no filter, no histogram
    results['generators'] = {}
    assert report(results).count('<figure>') == 2


@pytest.mark.parametrize('left_out, said', [
    (['ce+cbdm+aid'], '38.3, 46.6, 50.3 and 51.5 % for these four on CIFAR-100-LT '
                      '(imbalance factor 100, ResNet-32 of width 16); an independent'),
    (['ce+cbdm+aid+diffult+weight'],
     '38.3, 46.6, 49.7 and 50.3 % for these four on CIFAR-100-LT (imbalance factor 100, ResNet-32 of width 16). '),
    (['ce', 'ce+cbdm', 'ce+cbdm+aid'], '50.3 and 51.5 % for these two')])
def test_rungs_of_the_ladder_that_were_not_trained_are_left_out(results, left_out, said):
    for name in left_out: del results['classifiers'][name]
    assert len(axis(draw_ladder, results).get_xticks()) == len(LADDER) - len(left_out)
    assert said in words(report(results))


@pytest.mark.parametrize('kept', [['ce'], ['sau', 'oracle'], []])
def test_one_rung_is_no_ladder(results, kept):
    results['classifiers'] = {name: results['classifiers'][name] for name in kept}
    page = report(results)
    assert page.count('<figure>') == 3 and 'ladder' not in page
    assert ('Against cross-entropy' in page) == bool(gain_table(results)) == False


def test_results_without_pictures_have_a_page_without_strips(results):
    del results['pictures']
    page = report(results)
    assert page.count('data:image/png') == 4 and 'in the order in which they were drawn' not in page
    results['generators']['cbdm'].pop('intervals')      # as those of several machines have none
    assert 'of that recall' in report(results)
    for g in results['generators'].values(): g['intervals'] = None
    assert 'of that recall' not in report(results)


def poison(r, where):
    bad = f'"><script>alert("{where}")</script>\'$&'
    if where == 'class_names': r['dataset']['class_names'] = [bad + c for c in r['dataset']['class_names']]
    if where in ('name', 'profile', 'split_sha256'): r['dataset'][where] = bad
    if where == 'machine': r['machine'] = {bad: bad}
    if where == 'settings': r['settings'][bad] = bad
    if where == 'features': r['settings']['metrics']['features'] = bad
    if where == 'pictures': r['pictures'] = {k: {bad: {bad: bad}} for k in ('tail', 'kinds')}
    if where in ('generators', 'classifiers', 'filters'): r[where] = {bad + k: v for k, v in r[where].items()}
    if where in ('training_set', 'method'): r['classifiers']['sau'][where] = bad
    if where == 'rule': r['filters']['cbdm+filter']['rule'] = bad


@pytest.mark.parametrize('places', [
    ['class_names', 'name', 'profile', 'split_sha256', 'machine', 'settings', 'features', 'pictures', 'training_set',
     'method', 'rule'], ['generators', 'classifiers', 'filters']], ids=['values', 'names'])
def test_whatever_comes_from_the_results_is_escaped(results, places):
    for where in places: poison(results, where)
    page = report(results)
    assert '<script' not in page
    for where in places:
        there = re.search(rf'&lt;script&gt;alert\((\\?&#34;|\\?&quot;){where}', page)
        assert bool(there) == (where != 'class_names'), where       # which are not written but drawn


def test_many_classes_are_not_named(results):
    d = results['dataset']
    d['train_counts'], d['class_names'] = d['train_counts'] * 3, d['class_names'] * 3
    assert len(axis(draw_counts, results).patches) == 30
    assert all(t.get_text() != '9' for t in axis(draw_counts, results).get_xticklabels())


def test_the_report_is_imported_without_torch_matplotlib_and_the_study():
    code = ("import sys, ltnb.show, ltnb.report; "
            "assert not {'torch', 'matplotlib', 'PIL', 'jinja2', 'ltnb.study'} & set(sys.modules)")
    subprocess.run([sys.executable, '-c', code], check=True)


def made_results(name, **few): # rows of three draws with one seed each
    return dict(dataset=dict(name=name), draws=['ldam', 1, 2], generators={
        'ddpm': dict(values=dict(few=dict(recall=[.5, .5, .6], class_consistency=[.7, .7, .7]))),
        'cbdm': dict(values=dict(few=dict(recall=[.6, .61, .7], class_consistency=[.6, .8, .7])))},
        classifiers={row: dict(few=dict(values=v)) for row, v in few.items()})


def test_a_claim_holds_where_its_whole_interval_is_above_zero():
    a = made_results('a', ce=[30., 40., 35.], **{'ce+ddpm': [33., 43.2, 38.1], 'ce+cbdm': [25., 34.8, 30.], 'sau': [50., 20., 35.]})
    b = made_results('b', ce=[30., 40., 35.], sau=[50., 20., 35.], la=[50., 20., 34.5])
    table = {row['claim']: row for row in claims_table(a, b)}
    assert table["DDPM's samples help cross-entropy"] == {
        'claim': "DDPM's samples help cross-entropy", 'a': '+3.1 (+2.9 to +3.3): holds', 'b': None}
    assert table["CBDM's samples help cross-entropy"]['a'].endswith(': the opposite holds')
    assert table['SAU beats balanced softmax on the real images']['b'].endswith(': open')
    assert table['CBDM draws more of the real rare images than DDPM (recall)']['a'].startswith('+0.10 (+')
    assert set(table) == set(CLAIMS)
    assert claim(a, 'ce+cbdm', 'ce')['mean'] == pytest.approx(-5.0667, abs=1e-3)


def test_methods_are_compared_with_the_best_way_of_the_plain_one():
    from ltnb.report import above, compared_table
    spread = lambda *values: dict(mean=sum(values) / len(values), std=1., values=list(values))
    def row(name, few, sau, **how): # few: (recall, class consistency) of each way and draw
        curve = [dict(few=[dict(recall=r, class_consistency=c) for r, c in way], score=sum(2*r*c / (r + c) for r, c in way) / 3) for way in few]
        shown = {k: spread(.5) for k in ('recall', 'coverage', 'precision', 'class_consistency', 'memorised')}
        return dict(compared=name, curve=curve, figures=dict(few=shown), accuracy=dict(ce=dict(few=spread(30.)), sau=dict(few=spread(*sau))),
                    seconds=dict(training=10., an_image=.016), **dict(guidance=None, strength=1., tau=1., policy=None) | how)
    base = row('ddpm', [[(.2, .2)]*3, [(.5, .5), (.6, .6), (.4, .4)]], [50., 52., 54.])
    better = row('t2h', [[(.6, .6), (.7, .7), (.55, .55)]], [56., 57., 61.], guidance=.5, policy='cads')
    recorded = dict(draws=['ldam', 1, 2], rows=[base, better])
    score, sau = above(recorded, 't2h')
    assert score['mean'] == pytest.approx((.1 + .1 + .15) / 3) and score['low'] > 0 and sau['mean'] == pytest.approx(6.)
    plain, row = compared_table(recorded)
    assert plain['chosen'] == 'w = 0' and row['chosen'] == 'w = 0.5, cads' and row['SAU'] == '58.0' and row['ms an image'] == 16
    assert row['score above DDPM'].startswith('+0.117 (+') and plain['SAU above DDPM'] == '+0.0'
    one = dict(draws=['ldam'], rows=[base, better])
    assert 'to' not in compared_table(dict(one, rows=[dict(r, curve=[dict(w, few=w['few'][:1]) for w in r['curve']],
        accuracy=dict(r['accuracy'], sau=dict(few=spread(r['accuracy']['sau']['few']['values'][0])))) for r in one['rows']]))[1]['score above DDPM']
