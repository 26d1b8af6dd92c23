"The plans of the reading group add up, name what is in the notebooks, and say what these, the record and the widgets say."
import json
import re
from functools import cache
from statistics import mean

import pytest
from conftest import ROOT

import ltnb.widgets
from ltnb.collapse import rows_where
from ltnb.comparisons import figure_at, lines, over_draws
from ltnb.metrics import paired_difference
from ltnb.report import claim
from ltnb.widgets.base import Explorer

FRAME = {'0:00': 10, '0:10': 5, '0:15': 20, '0:35': 15, '0:50': 10}
WIDGETS = {name for name, x in vars(ltnb.widgets).items() if isinstance(x, type) and issubclass(x, Explorer)}
def recorded(name): return json.loads((ROOT / f'nbs/recorded/{name}.json').read_text())


RECORD, AFTER = recorded('fashion/study'), over_draws(recorded('fashion/after'))


@cache
def cells(number):
    path, = (ROOT / 'nbs').glob(f'{number}_*.ipynb')
    return json.loads(path.read_text())['cells']


def text(cell): return ''.join(cell['source'])


def shown(cell): # what a cell wrote, but pictures
    return '\n'.join(''.join(o.get('text') or o['data'].get('text/markdown', '')) for o in cell.get('outputs', []))


def sections(number):
    "Heading -> cells, in their order."
    found = {}
    for cell in cells(number):
        if cell['cell_type'] == 'markdown' and (heading := re.match(r'##? (.+)', text(cell))): mine = found.setdefault(heading[1], [])
        mine.append(cell)
    return found


def rows(markdown): # of its tables, without the heads
    return [[cell.strip() for cell in line.strip('|').split('|')] for line in markdown.splitlines() if re.match(r'\| \d:\d\d ', line)]


PAGE = cells(60)
LEADER = {int(n): text(cell) for cell in PAGE if (n := (re.match(r'<details><summary>Session (\d)', text(cell)) or [0, 0])[1])}
NOTEBOOK = {1: '10', 2: '20', 3: '30', 4: '40', 5: '25'}
FIGURES = {int(n): shown(cell) for cell in PAGE if (n := (re.search(r"^folded\('Session (\d)", text(cell), re.M) or [0, 0])[1])}


def test_the_five_parts_are_an_hour():
    parts = rows(text(next(c for c in PAGE if '| from | minutes |' in text(c))))
    assert {start: int(minutes) for start, minutes, *_ in parts} == FRAME and sum(FRAME.values()) == 60


@pytest.mark.parametrize('n', range(1, 6))
def test_a_plan_keeps_to_the_five_parts(n):
    minutes = [int(h)*60 + int(m) for h, m in (start.split(':') for start, *_ in rows(LEADER[n]))]
    assert minutes == sorted(set(minutes)) and minutes[-1] == 50
    assert {f'{m // 60}:{m % 60:02}' for m in minutes} >= FRAME.keys()


@pytest.mark.parametrize('n', range(1, 6))
def test_a_plan_names_what_is_in_the_notebook(n):
    named, widgets, last = {}, set(), -1     # notebook -> headings so far
    for start, what, stop in rows(LEADER[n]):
        number = (re.search(r'notebook (\d\d)', what) or [0, NOTEBOOK[n]])[1]
        there, headings = sections(number), re.findall(r'"([^"]+)"', what)
        assert not [h for h in headings if h not in there], start
        mine = named.setdefault(number, [])
        mine += headings
        for code in re.findall(r'`([^`]+)`', what + stop):
            cell = next((c for h in mine for c in there[h] if c.get('outputs') and code in text(c)), None)
            assert cell, f'{start}: there is no {code} in {mine}'
            if code in WIDGETS: widgets.add(code)
            assert code not in WIDGETS or any('image/png' in o.get('data', {}) for o in cell['outputs']), f'{start}: {code} has no picture'
        if '0:15' <= start < '0:35' and number == NOTEBOOK[n]:       # the notebook is run from top to bottom
            at = [[*there].index(h) for h in headings]
            assert at == sorted(at) and at[0] > last, start
            last = at[-1]
    assert widgets


@pytest.mark.parametrize('n', range(1, 6))
def test_what_the_group_is_told_to_run_is_there(n):
    cell = next(text(c) for c in PAGE if text(c).startswith(f'## Session {n}:'))
    line = next(l for l in cell.splitlines() if l.startswith('- **Run**'))
    there = {h for number in {NOTEBOOK[n], *re.findall(r'\((\d\d)_', line)} for h in sections(number)}
    named = re.findall(r'"([^"]+)"', line)
    assert named and not [h for h in named if h not in there]


def test_a_paper_of_the_handout_is_linked_on_the_page():
    ids = set(re.findall(r'\d{4}\.\d{5}', ''.join(map(text, cells(62)))))
    assert len(ids) == 7 and ids == set(re.findall(r'arxiv\.org/abs/(\d{4}\.\d{5})', ''.join(map(text, PAGE))))


def sign(*of): # '=': open
    d = claim(RECORD, *of)
    return '+' if d['low'] > 0 else '-' if d['high'] < 0 else '='


def less(*of): return claim(RECORD, *of)['mean']


def table(n, head):
    "The rows of a table under the leader's page of session n, as dicts."
    lines = FIGURES[n][FIGURES[n].index(f'\n| {head} |') + 1:].split('\n\n')[0].splitlines()
    split = lambda line: [x.strip() for x in line.strip('|').split('|')]
    number = lambda x: float(x.replace(',', '')) if re.fullmatch(r'[-+]?[\d,.]+', x) else x
    return [dict(zip(split(lines[0]), map(number, split(line)))) for line in lines[2:]]


def told(number, pattern): # the numbers in what the cells of a notebook wrote
    return [*map(float, re.search(pattern, '\n'.join(map(shown, cells(number)))).groups())]


def test_what_session_1_expects():
    page, many, few = LEADER[1], *(RECORD['generators']['ddpm'][g] for g in ('many', 'few'))
    assert 'recall and precision to be lower for *few* than for *many*, coverage most of all' in page
    assert 0 < max(many[m] - few[m] for m in ('recall', 'precision')) < many['coverage'] - few['coverage'] and few['precision'] < many['precision']
    assert 'hardly any copies' in page and 'fewer copies here than among new images' in page and few['memorised'] < .05
    def at(data, steps, m):
        rows = rows_where(recorded(f'{data}/collapse')['rows'], method='ddpm', imbalance_factor=None, train_steps=steps)
        return round(mean(r['figures']['few'][m] for r in rows), 2)
    told = 'makes precision and coverage rise, lowers recall from 0.60 to 0.53 and raises copies from 0.02 to 0.08'
    assert told in page and [at('fashion', steps, m) for m in ('recall', 'memorised') for steps in (1800, 3600)] == [.6, .53, .02, .08]
    assert all(at('fashion', 1800, m) < at('fashion', 3600, m) for m in ('precision', 'coverage'))
    assert 'lowers recall from 0.65 to 0.24 and raises copies from 0.02 to 0.69' in page
    assert [at('digits', steps, m) for m in ('recall', 'memorised') for steps in (750, 3000)] == [.65, .24, .02, .69]
    assert 'more than a third of all these "boots" for sneakers' in page and 1/3 < table(1, '"boots" of')[0]['sneaker'] / 300 < 1/2


def test_what_session_2_expects():
    page = LEADER[2]
    change = {m: less('cbdm', 'ddpm', m) for m in ('recall', 'coverage', 'class_consistency')}
    assert 'recall to rise by a few hundredths, coverage to fall by as much, and class consistency to fall by far more' in page
    assert [sign('cbdm', 'ddpm', m) for m in change] == ['+', '-', '-']
    assert 'their coverage and class consistency fall, and recall is open' in page and [sign('cbdm', 'ddpm', m, 'many') for m in change] == ['=', '-', '-']
    assert .02 < change['recall'] < .1 and abs(change['recall'] + change['coverage']) < .02 and change['class_consistency'] < -.15
    rows = rows_where(recorded('fashion/cbdm')['rows'], method='cbdm', tau=1, guidance=0, length=1, fine_tuned=False)
    uniform, train = ([[r['figures'][g]['class_consistency'] for r in rows_where(rows, prior=prior)] for g in ('many', 'few')] for prior in ('uniform', 'train'))
    assert "no lower with uniform $y'$" in page and all(u > t - .005 for u, t in zip(uniform[0], train[0])) and mean(uniform[0]) > mean(train[0])
    assert '0.25 in place of 0.39' in page and [round(mean(x[1]), 2) for x in (uniform, train)] == [.25, .39]
    seen = next(r for r in table(2, '"boots" of') if r['"boots" of'] == 'cbdm')
    assert 'for sneakers most often, then for bags and sandals, but also for coats, T-shirts and trousers' in page
    assert seen['sneaker'] > seen['bag'] > seen['sandal'] > seen['coat'] and min(seen['coat'], seen['T-shirt'], seen['trousers']) > 0
    assert 'In the draw shown hardly for boots: CBDM loses about as many as it brings back, and gains over the four rare classes together' in page
    written = '\n'.join(map(shown, sections(20)['What comes back, and what is lost?']))
    back, lost = zip(*[map(int, x) for x in re.findall(r'\| \d+ \| (\d+) \| (\d+) \| \d+ \| 300 \|', written)])
    assert len(back) == 4 and abs(back[-1] - lost[-1]) < 5 and sum(back) > sum(lost)
    nearer, n = map(int, re.search(r'for (\d+) of the (\d+) rare images', FIGURES[2]).groups())
    assert 'that is a part of its recall' in page and nearer < .7*n and n == sum(back)


def test_what_session_3_expects():
    page, of = LEADER[3], {(r['rule'], r['samples of']): r for r in table(3, 'rule')}
    assert 'the medium classes to lose with each of the three sets' in page and {sign(f'ce+{x}', 'ce', None, 'medium') for x in ('ddpm', 'cbdm', 'cbdm+filter')} == {'-'}
    assert 'compared with real images alone the difference is open' in page and (sign('ce+cbdm+filter', 'ce+cbdm'), sign('ce+cbdm+filter', 'ce')) == ('+', '=')
    assert "DiffuLT's rule to drop next to nothing" in page and of['DiffuLT', 'all rare']['dropped'] < .02*1200
    assert 'alone it keeps nearly all "boots"' in page and of['DiffuLT', 'boot']['kept'] > .9*300
    bags = of['neighbours', 'bag']
    assert 'the neighbour rule leaves one in ten, and drops three of four that the judge calls bags' in page
    assert abs(bags['kept'] / 300 - .1) < .02 and abs(bags['right among these'] / (bags['right among these'] + bags['right among those']) - 1/4) < .05
    score = {row: RECORD['classifiers'][row]['few']['mean'] for row in ('ce', 'ce+ddpm', 'ce+cbdm', 'ce+cbdm+filter')}
    assert "All of CBDM's samples in the mean, though the difference from all of the DDPM's is open" in page and min(score, key=score.get) == 'ce+cbdm'
    assert [sign('ce+cbdm', row) for row in ('ce+ddpm', 'ce', 'ce+cbdm+filter')] == ['=', '-', '-']
    boots = of['DiffuLT, at 1', 'boot']
    assert 'at 1 half of the boots are left, and a third of these are boots' in page
    assert abs(boots['kept'] / 300 - 1/2) < .05 and abs(boots['right among these'] / boots['kept'] - 1/3) < .05
    assert 'With the neighbour rule a third of all rare samples is left' in page and abs(of['neighbours', 'all rare']['kept'] / 1200 - 1/3) < .05
    wrong, = told(30, r'\| neighbours \| [\d.]+ \| ([\d.]+) \| [\d.]+ \| [\d.]+ \|')
    assert '`neighbours` drops two of three' in page and abs(wrong - 1/3) < .05


def test_what_session_4_expects():
    page, of = LEADER[4], {r['class']: r for r in table(4, 'class')}
    assert 'as they are, SAU minus cross-entropy on real images is open, and with adjusted logits SAU is below' in page
    assert (sign('sau', 'ce', None, 'medium'), sign('sau+adjusted', 'ce+adjusted', None, 'medium')) == ('=', '-')
    assert 'SAU closes about half of the gap' in page and abs(less('sau', 'ce') / less('oracle', 'ce') - 1/2) < .05
    assert 'far above cross-entropy, though by different amounts in the three draws' in page
    assert less('sau', 'ce+cbdm+filter') > 15 and sign('sau', 'ce+cbdm+filter') == '+' and len(RECORD['draws']) == 3
    assert 'It is below real images with adjusted logits. With its own logits adjusted, too, the difference is open' in page
    assert (sign('sau', 'ce+adjusted'), sign('sau+adjusted', 'ce+adjusted')) == ('-', '=')
    assert "no learner with generated images is *seen* to be above cross-entropy on the real images alone (three draws would miss a gain of several points), and cross-entropy with all of CBDM's samples is below" in page
    assert [sign(f'{row}+adjusted', 'ce+adjusted') for row in ('sau', 'ce+cbdm+filter', 'ce+ddpm', 'ce+cbdm')] == [*'===-']
    shirts, gain = of['shirt'], {c: r['sau, right'] - r['ce, right'] for c, r in of.items()}
    assert 'finds no shirt, and SAU a few: both take shirts for pullovers, and mostly the same ones' in page
    assert shirts['ce, right'] == 0 < shirts['sau, right'] < 30 and shirts['the same image, the same error'] > 100
    assert {shirts[f'{row}, most often taken for'].split()[0] for row in ('ce', 'sau')} == {'pullover'}
    assert 'Half of the rare test images that SAU gains are boots' in page and abs(gain['boot'] / sum(gain.values()) - 1/2) < .05
    assert 'takes most of those for sandals' in page and of['boot']['ce, most often taken for'] == 'sandal (129)'
    assert 'without it, or with another strategy, the difference is small, and its interval contains 0' in page
    assert 'Without MixUp and CutMix the rare classes lose about twelve points' in page
    assert 'On the digits (one draw, an older protocol) the aware branch counted, and MixUp and CutMix were open' in page
    of = {r['learner']: r['few']['values'] for r in rows_where(recorded('digits/classifiers')['rows'], training_set='cbdm neighbours', method='sau')}
    aware, mixed = (paired_difference(of['sau'], of[f'sau-{left} only']) for left in ('unaware', 'aware'))
    assert aware['low'] > 0 > mixed['low'] and mixed['high'] > 0
    part = lambda name: told(40, rf'\| {name} \|.+?\| (\S+) \((\S+) to (\S+)\)')
    assert all(abs(d) < 3 and low < 0 < high for d, low, high in map(part, ('without the aware branch', "strategy 'drop'", "strategy 'neg_only'")))
    lost, _, high = part('without MixUp and CutMix')
    assert high < 0 and abs(lost + 12) < 1


def test_what_session_5_expects():
    page, of = LEADER[5], {r['compared']: r for r in AFTER['rows']}
    assert 'guided by $w = -0.25$ draws as CBDM does on the digits' in page
    assert all(abs(x) < .03 for x in told(20, r'digits, the DDPM at w = -0.25 less CBDM: recall (\S+), class consistency (\S+)'))
    assert 'in the mean over three draws, at least as well as CBDM at $\\tau = 1$: recall, coverage, precision and class consistency' in page
    rows, shown = recorded('fashion/cbdm')['rows'], ('recall', 'coverage', 'precision', 'class_consistency')
    def drawn(**k): # means over draws
        mine = rows_where(rows, length=1, tau=1, prior='train', **k)
        assert len(mine) == 3
        return [mean(r['figures']['few'][m] for r in mine) for m in shown]
    assert all(a >= b for a, b in zip(drawn(method='ddpm', guidance=-.25), drawn(method='cbdm', guidance=0)))
    assert "lie on the DDPM's own" in page and 'three draws of the long tail' in page and len(AFTER['draws']) == 3
    first, *others = zip(*(figure_at(lines(of[m])[m], .75) for m in ('ddpm', 'resampled', 'coral')))
    assert 'In the first draw re-sampling and CORAL are far above it' in page and min(first[1:]) > first[0] + .1
    assert 'in the other two they are not' in page and all(max(x[1:]) < x[0] + .03 for x in others)
    nearest = max((m for m in ('resampled', 'cbdm', 't2h', 'cm', 'coral', 'ccua') if figure_at(lines(of[m])[m], .65)), key=lambda m: mean(figure_at(lines(of[m])[m], .65)))
    assert nearest == 't2h' and 'T2H comes nearest to being above it' in page
    def above(line, x): return paired_difference(figure_at(line, x), figure_at(lines(of['ddpm'])['ddpm'], x), 3)
    trained = {name: line for m, r in of.items() if m not in ('ddpm', 'longer') and not any(way['policy'] for way in r['curve']) for name, line in lines(r).items()}
    sure = [{name for name, line in trained.items() if figure_at(line, x) and above(line, x)['low'] > 0} for x in (.7, .65)]
    assert 'Two of nine lines, T2H and CBDM at $\\tau = 0.25$' in page and len(trained) == 9 and sure == [{'t2h', 'cbdm, tau 0.25'}, set()]
    longer = above(lines(of['longer'])['longer'], .65)
    assert 'trained twice as long is not below the usual one there' in page and longer['low'] < 0 < longer['mean']
    for r in table(5, 'method'):
        assert [r['recall where 65 % are of their class']] == told(25, rf'\| {r["method"]} \| ([\d.]+) \|'), r
    assert 'one in eight of its few-shot samples' in page and abs(of['resampled']['figures']['few']['memorised']['mean'] - 1/8) < .02
    assert 'Thirteen rows' in page and 'the last three' in page and [*of][13:] == ['between', 'minority', 'feedback']
    assert 'SAU closes two thirds of it with such samples, cross-entropy a third' in page
    assert all(abs(x - share) < 5 for x, share in zip(told(49, r'That is (\d+)% and (\d+)% of the gap'), (33, 67)))
