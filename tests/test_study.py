"The study: what it leaves, second runs, kill -9 in the middle, one more row of each table, and folders of others."
import base64
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import ROOT, make_folder
from PIL import Image

from ltnb.classifiers import CrossEntropy, class_accuracy
from ltnb.cli import main
from ltnb.core import InputError, load_tensors, rng
from ltnb.data import ImageSet, Split, long_tail_counts, pack
from ltnb.diffusion import ClassConditionalPipeline, ddpm_loss, samples_about
from ltnb.between import FILTERS
from ltnb.filtering import Filter
from ltnb.making import make
from ltnb.marks import load_marks, save_marks
from ltnb.metrics import flat, missed
from ltnb.rebalancing import METHODS
from ltnb.report import filter_table, report
from ltnb.runs import Run
from ltnb.sources import load_split
from ltnb.specs import (CLASSIFIERS, FILTERS_SHOWN, GENERATORS, LOSSES, STORY, TAUS, Learner, Recipe,
                        TrainingSet, recipe_of)
from ltnb.study import ROOM, _check_marks, _pictures, filter_results, generator_figures, kept_run, run_study, study_generators, study_rows


METRICS = {'precision', 'recall', 'density', 'coverage', 'diversity', 'frechet', 'memorised', 'class_consistency',
           'n_real', 'n_generated'}


GROUPS = ('overall', 'many', 'medium', 'few')
QUIET = dict(seeds=[0], say=lambda line: None)
FEW = ['ce', 'ce+ddpm', 'ce+cbdm', 'ce+cbdm+diffult', 'ce+cbdm+filter', 'ce+cbdm+filter+weight', 'sau']


def without_timings(results):
    r = json.loads(json.dumps(results))
    for k in ('seconds', 'machine', 'versions'): del r[k]
    for g in r['generators'].values(): del g['train_seconds'], g['samples_per_second']
    return r


def check_contract(r):
    C = r['dataset']['num_classes']
    assert r['schema'] == 1
    assert set(r['dataset']) >= {'name', 'image_size', 'channels', 'num_classes', 'class_names', 'imbalance_factor',
                                 'profile', 'train_counts', 'test_counts', 'split_sha256'}
    for k in 'train_counts', 'test_counts', 'class_names': assert len(r['dataset'][k]) == C
    assert set(r) >= {'settings', 'seeds', 'generator_seeds', 'versions', 'machine', 'seconds', 'generators', 'filters',
                      'classifiers'}
    number = lambda v: v is None or isinstance(v, (int, float)) and not isinstance(v, bool)
    for g in r['generators'].values():
        assert len(g['per_class']) == C
        for m in [g[k] for k in GROUPS] + [g['spread'][k] for k in GROUPS] + g['per_class']:
            assert set(m) >= METRICS and all(map(number, m.values()))
        assert g['parameters'] > 0 and g['train_steps'] > 0 and g['train_seconds'] > 0 and g['samples_per_second'] > 0
    for f in r['filters'].values():
        assert 0 <= f['kept'] <= f['generated'] and abs(f['id'] + f['aid'] + f['ood'] - 1) < 1e-6
        assert f['generator'] in r['generators'] and {'label_purity_before', 'label_purity_after'} <= set(f)
        if 'used' in f:
            assert len(f['used']) == C and sum(f['used']) <= f['drawn'] and (f['label_purity_used'] is None or 0 <= f['label_purity_used'] <= 1)
    for c in r['classifiers'].values():
        assert len(c['per_class']) == C and isinstance(c['training_set'], str)
        for s in [c[k] for k in ('accuracy', 'many', 'medium', 'few')] + c['per_class']:
            if s is None: continue
            assert len(s['values']) == len(r['draws']) * len(r['seeds']) and all(0 <= v <= 100 for v in s['values'])
            assert abs(s['mean'] - sum(s['values']) / len(s['values'])) < 1e-3


@pytest.mark.slow
def test_a_study_of_a_thousand_classes(tmp_path):
    "All of it, from a pack: a few images of 8×8 pixels of each class."
    g, C = rng(0), 1000
    looks = torch.nn.functional.interpolate(torch.randint(256, (C, 3, 4, 4), generator=g).float(), 8)
    def made(counts):
        y = torch.arange(C).repeat_interleave(torch.tensor(counts))
        return ImageSet((looks[y] + 40 * torch.randn(len(y), 3, 8, 8, generator=g)).clamp(0, 255).to(torch.uint8), y)
    full, counts = made([10] * C), long_tail_counts(10, C, 10)
    train = full[torch.arange(C).repeat_interleave(torch.tensor(counts)) * 10
                 + torch.cat([torch.arange(n) for n in counts])]
    pack(Split('thousand', train, made([6] * C), [f'class {c}' for c in range(C)], full), tmp_path / 'thousand.pack', full=True)
    split = load_split(f'pack:{tmp_path / "thousand.pack"}')
    results = run_study(split, tmp_path / 'out', 'tiny', [0], rows='story', say=lambda line: None)
    check_contract(results)
    assert results['dataset']['train_counts'] == counts and set(STORY) == set(results['classifiers'])
    assert all(m['recall'] is not None for m in results['generators']['cbdm']['per_class'])
    page = (tmp_path / 'out/report.html').read_text()
    assert len(page) < 5e6
    for drawn in re.findall('<svg.*?</svg>', page, re.S): assert drawn.count('<text') < 80     # no label for each class


def test_what_tiny_leaves_out_is_said_and_kept(tmp_path):
    split, told = load_split(f'folder:{make_folder(tmp_path / "bars", (310, 12, 6))}'), []
    results = run_study(split, tmp_path / 'out', 'tiny', [0], rows=['ce'], say=told.append)
    assert results['dataset']['train_counts'] == [300, 12, 6] and results['settings']['cap'] == dict(train=300, test=300, seeds=1)
    assert told[0] == ('the preset tiny takes at most 300 training and 300 test images of a class: 318 of 328 training images '
                       'and 24 of 24 test images; and 20 samples of a class')
    assert kept_run(tmp_path / 'out').split.counts == [300, 12, 6]


def test_a_study_keeps_the_contract(study):
    results, out = study
    on_disk = json.loads((out / 'results.json').read_text())
    assert on_disk == json.loads(json.dumps(results))
    check_contract(on_disk)
    assert set(on_disk['generators']) >= {'ddpm', 'cbdm'}
    assert set(on_disk['classifiers']) >= {'ce', 'ce+ddpm', 'ce+cbdm', 'ce+cbdm+filter', 'ce+cbdm+filter+weight', 'sau'}
    # no balanced set is known
    assert 'oracle' not in on_disk['classifiers']
    assert on_disk['generators']['cbdm']['overall']['class_consistency'] is None
    assert on_disk['classifiers']['ce']['many'] is None
    assert not [p for p in out.rglob('*') if p.suffix in ('.pkl', '.pt', '.pth', '.bin')]
    assert not list(out.rglob('*.checkpoint.safetensors'))


def test_the_report_is_made_from_the_results_alone(study):
    results, out = study
    page = (out / 'report.html').read_text()
    assert page == report(json.loads((out / 'results.json').read_text()))
    assert page.count('data:image/png') >= 10 and 'src="http' not in page and page.count('<script') == 1
    # tiny: poor images, and said
    assert f"{results['classifiers']['sau']['few']['mean']:.1f}" in page and 'poor' in page


def pixels(uri): # of a picture
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.split(',')[1]))))


def test_the_missed_modes_that_are_shown_are_those_of_the_reported_recall(study, bars):
    results, out = study
    split, k = load_split(f'folder:{bars}'), results['settings']['metrics']['k']
    space = Run(split, out, 'tiny').space()
    assert set(results['pictures']['missed']) == set(split.class_names)
    seen = 0
    for c, name in enumerate(split.class_names):
        real = split.test.of_class(c).images
        for generator, of in results['pictures']['missed'][name].items():
            m = results['generators'][generator]['per_class'][c]
            assert 1 - of['missed'] / of['of'] == pytest.approx(m['recall']) and of['of'] == m['n_real'] > k
            t, _ = load_tensors(out / f'samples/{generator}.safetensors')
            fake = t['images'][t['labels'] == c][:of['of']]
            i, j, _ = missed(space(real[:of['of']]), space(fake), k)
            assert of['missed'] == len(i)
            if not of['missed']: assert of['picture'] is None; continue
            shown = torch.tensor(pixels(of['picture'])).movedim(-1, 0)
            assert shown.shape == (3, 17, 9*min(6, len(i)) - 1)
            for n in range(min(6, len(i))):     # above the real image, below its nearest sample, the farthest first
                assert (shown[:, :8, 9*n:9*n + 8] == real[i[n]]).all() and (shown[:, 9:, 9*n:9*n + 8] == fake[j[n]]).all()
                seen += 1
    assert seen


def made_up_run(classes, size, channels, generators): # as `_pictures` asks it; noise, which no PNG makes smaller
    g = torch.Generator().manual_seed(0)
    labels = torch.arange(classes).repeat_interleave(9)
    images = lambda: torch.randint(0, 256, (len(labels), channels, size, size), dtype=torch.uint8, generator=g)
    sets = {name: ImageSet.generated(images(), labels) for name in generators}
    split = SimpleNamespace(test=ImageSet.generated(images(), labels), counts=list(range(classes, 0, -1)), num_classes=classes,
                            class_names=[f'class {c}' for c in range(classes)])
    report = SimpleNamespace(split=split, samples=sets[generators[0]], kept=torch.ones(len(labels), dtype=torch.bool),
                             kinds=torch.arange(len(labels)) % 9 // 3)
    return SimpleNamespace(split=split, samples=lambda name, seed: sets[name], filter_report=lambda what, seed: report,
                           space=lambda: flat, settings=SimpleNamespace(metrics=SimpleNamespace(k=1)))


@pytest.mark.parametrize('classes, most, pairs', [(10, 3e6, 6), (100, 10e6, 4), (1000, 11e6, 1)])
def test_a_report_of_many_classes_can_be_mailed(classes, most, pairs):
    run = made_up_run(classes, 32, 3, ['ddpm', 'cbdm'])
    results = json.loads((ROOT / 'nbs/recorded/fashion/study.json').read_text())
    d, many = results['dataset'], lambda x: (x * classes)[:classes]
    d |= dict(image_size=32, num_classes=classes, class_names=run.split.class_names, train_counts=run.split.counts,
              test_counts=many(d['test_counts']))
    for g in results['generators'].values(): g['per_class'] = many(g['per_class'])
    results['pictures'] = _pictures(run, ['ddpm', 'cbdm'], 0)
    page, shown = report(results), results['pictures']['missed']
    assert len(page) < most and page.count('<section class=modes') == len(shown) == min(classes, ROOM // (4*3*32*32))
    shapes = {pixels(of['picture']).shape for by in shown.values() for of in by.values() if of['missed'] >= pairs}
    assert shapes == {(65, 33*pairs - 1, 3)} and f'class {classes - 1}' in shown


def test_filtered_samples_are_named_as_their_filter_is():
    tail = _pictures(made_up_run(3, 8, 1, ['ddpm+w=1']), ['ddpm+w=1'], 0)['tail']
    assert all(list(shown) == ['real', 'ddpm+w=1', 'ddpm+w=1+filter'] for shown in tail.values()) and len(tail) == 3


def test_what_is_left_can_be_used_alone(study):
    _, out = study
    images = ClassConditionalPipeline.from_pretrained(out / 'generators/cbdm')(class_labels=[0, 1],
        num_inference_steps=2, generator=torch.Generator().manual_seed(0)).images
    assert [im.size for im in images] == [(8, 8)] * 2
    tensors, about = load_tensors(out / 'samples/cbdm.safetensors')
    assert tensors['images'].shape[0] == tensors['labels'].shape[0]
    assert {'seed', 'sampler', 'guidance', 'generator_sha256'} <= set(about)


def stamps(out):
    return {str(p): (p.stat().st_mtime_ns, p.stat().st_size) for p in out.rglob('*') if p.is_file()
            and p.name != '.lock'}


def test_the_same_command_again_changes_nothing(study, bars, monkeypatch):
    results, out = study
    before = stamps(out)
    def refuse(*args, **kwargs): raise AssertionError('something was made')
    monkeypatch.setattr('ltnb.study.make', refuse)
    again = run_study(load_split(f'folder:{bars}'), out, 'tiny', **QUIET)
    assert without_timings(again) == without_timings(results) and stamps(out) == before


@pytest.mark.parametrize('changed', [dict(seeds=[2]), dict(features='pixels'), dict(split='other')])
def test_another_study_in_the_folder_is_refused_and_unharmed(study, bars, changed, folder):
    _, out = study
    before = stamps(out)
    (folder / 'train/class0/000.png').unlink()
    split = load_split(f'folder:{folder if changed.pop("split", None) else bars}')
    with pytest.raises(InputError, match='holds another study'): run_study(split, out, 'tiny', **{**QUIET, **changed})
    assert stamps(out) == before


def test_more_seeds_keep_what_is_there_and_make_what_is_missing(study, bars, tmp_path):
    results, out = study
    more = tmp_path / 'more'
    shutil.copytree(out, more)
    wider = run_study(load_split(f'folder:{bars}'), more, 'tiny', seeds=[0, 1], rows=['ce'], generators=['ddpm', 'cbdm'],
                      say=lambda line: None)
    first = results['classifiers']['ce']['few']['values']
    assert wider['classifiers']['ce']['few']['values'][:1] == first and wider['seeds'] == [0, 1]
    kept, now = stamps(out / 'generators'), stamps(more / 'generators')
    assert [s for _, s in sorted(kept.items())] == [s for _, s in sorted(now.items())]      # nothing trained again
    assert not list(more.rglob('*.aside*'))     # figures of a filter whose training set no row asks for, either


@pytest.mark.slow
def test_killed_in_the_middle_a_study_goes_on_to_the_same_figures(study, bars, tmp_path):
    results, out, rows = study[0], tmp_path / 'killed', ['ce', 'ce+ddpm', 'ce+cbdm+aid', 'sau', 'sau+adjusted']
    command = [sys.executable, '-m', 'ltnb', 'study', '--data', f'folder:{bars}', '--preset', 'tiny', '--seeds', '0',
               '--rows', ','.join(rows), '--out', str(out)]
    p = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while p.poll() is None and not (out / 'classifiers/ce+ddpm-0.safetensors').exists(): time.sleep(.01)
    assert p.poll() is None, 'the study ended before it could be killed'
    os.kill(p.pid, signal.SIGKILL)
    p.wait()
    assert not (out / 'results.json').exists()
    r = without_timings(run_study(load_split(f'folder:{bars}'), out, 'tiny', rows=rows, **QUIET))
    whole = without_timings(results)
    assert list(r['generators']) == ['ddpm', 'cbdm', 'cbdm+aid'] and list(r['classifiers']) == rows
    for part in 'generators', 'classifiers': assert r[part] == {name: whole[part][name] for name in r[part]}


def test_one_more_row_of_each_table_is_a_loss_a_filter_and_a_learner_more(folder, tmp_path, only, monkeypatch):
    "And all other rows are left out."
    class Half(Filter):
        def score(self, features, labels): return (torch.arange(len(labels)) % 2).float()

    def twice(net, batch, generator):
        value, eps = ddpm_loss(net, batch, generator)
        return 2 * value, eps

    monkeypatch.setitem(LOSSES, 'twice', lambda split, recipe: twice)
    monkeypatch.setitem(FILTERS, 'half', lambda phi: Half())
    monkeypatch.setitem(METHODS, 'smooth', ('smoothed', lambda counts, **how: CrossEntropy(**how)))
    what = TrainingSet(Recipe('twice'), 'half')
    only(GENERATORS, mine=what.recipe)
    only(FILTERS_SHOWN, half='half')
    pictures = {'ce+cbdm+diffult': (what, Learner())}       # of which they are shown
    only(CLASSIFIERS, mine=(what, Learner('smooth')), **pictures)
    monkeypatch.setattr('ltnb.making.usual_workers', lambda: 2)
    with pytest.raises(InputError, match=r"GENERATORS\['mine'\], CLASSIFIERS\['mine'\].* would not be known to worker processes.*give workers=1"):
        make(Run(load_split(f'folder:{folder}'), tmp_path / 'none', 'tiny'), [(Run.generator, what.recipe, 0)])
    assert not (tmp_path / 'none').exists()
    run_study(load_split(f'folder:{folder}'), tmp_path / 'out', 'tiny', workers=1, **QUIET)
    r = json.loads((tmp_path / 'out/results.json').read_text())
    assert set(r['generators']) == {'mine'} and set(r['filters']) == {'mine+half'}
    assert set(r['classifiers']) == {'ce+cbdm+diffult', 'mine'} and r['generators']['mine']['train_steps'] == 40
    drawn = r['filters']['mine+half']
    assert drawn['kept'] * 2 == drawn['generated'] and drawn['rule'].startswith('Half')
    assert sum(drawn['used']) + drawn['missing'] == 3*24 - 24 - 12 - 6 and drawn['label_purity_used'] is None       # there is no oracle
    mine = r['classifiers']['mine']
    assert (mine['method'], mine['training_set']) == ('smoothed', 'real + filtered TWICE')
    assert mine['accuracy']['mean'] > 0 and '<td>mine</td>' in (tmp_path / 'out/report.html').read_text()
    training = json.loads((tmp_path / 'out/generators/mine/training.json').read_text())
    assert training['loss'] == dict(name='twice')


@pytest.mark.slow
def test_draws_are_the_outer_unit_and_each_has_its_part_of_the_folder(tmp_path, monkeypatch):
    splits, out = [load_split('digits', subset=d) for d in ('ldam', 1)], tmp_path / 'out'
    go = lambda: run_study(splits, out, 'tiny', seeds=[0, 1], rows=['ce', 'ce+ddpm+adjusted'], say=lambda line: None)
    r = go()
    check_contract(r)
    assert r['draws'] == ['ldam', 1] and r['splits_sha256'] == [s.sha256 for s in splits]
    assert list(r['classifiers']) == ['ce', 'ce+ddpm+adjusted'] and list(r['generators']) == ['ddpm']
    runs = [Run(s, out / where, 'tiny') for s, where in zip(splits, ('', 'draws/1'))]
    values = [class_accuracy(run.classifier('ce', seed), run.split.test, 10).mean().item()
              for run in runs for seed in (0, 1)]
    of, (a, b) = r['classifiers']['ce']['accuracy'], (sum(values[:2]) / 2, sum(values[2:]) / 2)
    assert of['values'] == pytest.approx(values, abs=1e-3) and len(set(values)) == 4
    for k, sign in ('low', -1), ('high', 1):    # t(1) at 97.5 % is 12.7062
        assert of[k] == pytest.approx((a + b + sign * 12.7062 * abs(a - b)) / 2, abs=.01)
    adjusted = r['classifiers']['ce+ddpm+adjusted']['few']
    assert adjusted['chosen']['tau'] in TAUS and len(adjusted['published']['values']) == 4
    assert r['generators']['ddpm']['spread']['overall']['recall'] is not None       # over draws
    for name in 'generators/ddpm', 'samples/ddpm.safetensors', 'classifiers/ce-1.safetensors':
        assert (out / name).exists() and (out / 'draws/1' / name).exists()
    assert {p.name for p in (out / 'draws').iterdir()} == {'1'} and not list((out / 'draws').rglob('results.json'))
    assert "2 draws of the long tail" in (out / 'report.html').read_text()
    shown_once = {'real images.json', 'filter-ddpm+diffult.json', 'filter-ddpm+neighbours.json'}
    assert shown_once <= {p.name for p in (out / 'rows').iterdir()} and not any((out / 'draws/1/rows' / name).exists() for name in shown_once)
    about = samples_about(out / 'draws/1/samples/ddpm.safetensors')
    save_marks(tmp_path / 'marks.json', dict(ddpm=(about, torch.ones(about['count']))))
    runs = [Run(s, out / where, 'tiny', marks=load_marks(tmp_path / 'marks.json')) for s, where in zip(splits, ('', 'draws/1'))]
    check = lambda runs: _check_marks(runs, [recipe_of('ddpm')], [0], 1, lambda *done: None)
    check(runs)
    with pytest.raises(InputError, match='of other samples than this study has'): check(runs[:1])
    before = stamps(out)
    monkeypatch.setattr('ltnb.study.make', lambda *args: 1 / 0)
    assert without_timings(go()) == without_timings(r) and stamps(out) == before
    splits[0] = load_split('digits', subset=2)
    with pytest.raises(InputError, match=r'holds another study \(its data differs\)'): go()


def test_a_folder_that_is_taken_as_it_is_has_no_draws(bars, tmp_path):
    splits = [load_split(f'folder:{bars}')] * 2
    with pytest.raises(InputError, match='its draws are all alike') as e:
        run_study(splits, tmp_path / 'out', 'tiny', **QUIET)
    assert '\n' not in str(e.value) and not (tmp_path / 'out').exists()


def test_rows_bring_their_generators_and_others_can_be_asked_for(tmp_path):
    run = Run(load_split('digits'), tmp_path, 'tiny')
    assert study_generators(study_rows(run, ['ce'])) == [] and study_generators(['ce'], ['cbdm']) == ['cbdm']
    assert study_rows(run, 'story') == [row for row in CLASSIFIERS if row in STORY]
    assert study_rows(run) == [row for row in CLASSIFIERS if not row.startswith('ce-wide')]
    assert study_generators(STORY) == ['ddpm', 'cbdm'] and study_generators(CLASSIFIERS) == ['ddpm', 'cbdm', 'cbdm+aid']
    assert study_generators(['ce'], ['t2h', 'cbdm+cads:s=.1']) == ['t2h', 'cbdm+cads:s=.1']
    for ask in lambda: study_rows(run, ['ce', 'gan']), lambda: study_generators(['ce'], ['gan']):
        with pytest.raises(InputError, match="unknown name 'gan'"): ask()


def test_figures_over_generator_seeds_are_means_with_their_spread():
    def run(recall, few): return {g: dict(recall=few if g == 'few' else recall) for g in GROUPS} | dict(
        per_class=[dict(recall=recall)], intervals=dict(few=recall))
    f = generator_figures([run(.2, None), run(.4, None)])
    assert f['overall']['recall'] == pytest.approx(.3) and f['per_class'][0]['recall'] == pytest.approx(.3)
    assert f['spread']['overall']['recall'] == pytest.approx(.02 ** .5) and f['few']['recall'] is None
    one = generator_figures([run(.2, .1)])
    assert one['spread']['overall']['recall'] is None and one['intervals'] == dict(few=.2) == f['intervals']


@pytest.mark.slow
def test_the_samples_that_a_filled_training_set_uses_are_counted_and_judged(tmp_path, monkeypatch):
    run, what = Run(load_split('digits'), tmp_path, 'tiny'), TrainingSet(Recipe(), 'neighbours')
    shown, filled = filter_results(run, what, 0, True), run.filled(what)
    used = filled.data[filled.data.synthetic]
    assert shown['used'] == torch.bincount(used.labels, minlength=10).tolist() and 0 < sum(shown['used']) == len(used)
    assert sum(shown['used']) + shown['missing'] == sum(max(run.split.counts) - n for n in run.split.counts)
    assert shown['label_purity_used'] == pytest.approx((run.judge()(used.images).argmax(1) == used.labels).float().mean().item())
    table, = filter_table(dict(filters=dict(mine=shown)))
    assert table['used'] == len(used) and table['label purity, used'] == f"{shown['label_purity_used']:.0%}"
    assert not {'used', 'label_purity_used', 'missing'} & set(filter_results(run, what, 0, False))      # no row is trained on it
    assert filter_results(run, what, 0, True) == shown
    monkeypatch.setattr(Run, 'filter_report', lambda *args: 1 / 0)
    assert filter_results(run, what, 0, True) == shown       # kept
    with pytest.raises(ZeroDivisionError): filter_results(run, TrainingSet(Recipe(), 'diffult'), 0, False)


@pytest.mark.slow
def test_a_class_with_one_image(tmp_path):
    one = make_folder(tmp_path / 'one', (12, 4, 1))
    results = run_study(load_split(f'folder:{one}'), tmp_path / 'out', 'tiny', rows=FEW, **QUIET)
    check_contract(results)
    # d_f of one image is 0: nothing but a copy would be kept
    assert results['filters']['cbdm+diffult']['missing'] > 0


@pytest.mark.slow
def test_several_generator_seeds(study, bars, tmp_path):
    for part in 'generators', 'samples', 'filled', 'classifiers':       # of the first seeds: not made again
        shutil.copytree(study[1] / part, tmp_path / 'out' / part)
    results = run_study(load_split(f'folder:{bars}'), tmp_path / 'out', 'tiny', seeds=[0, 1], generator_seeds=[0, 1],
                        rows=FEW, say=lambda line: None)
    check_contract(results)
    assert results['classifiers']['ce']['per_class'][0]['std'] is not None
    assert len(results['classifiers']['sau']['accuracy']['values']) == 2
    assert results['generators']['cbdm']['spread']['few']['recall'] is not None
    assert (tmp_path / 'out/generators/cbdm@1').is_dir() and 'over_generator_seeds' in results['classifiers']['sau']


@pytest.mark.slow
def test_marks_made_by_hand_overrule_the_filters(study, bars, tmp_path, capsys):
    results, out = study
    split, marked = load_split(f'folder:{bars}'), tmp_path / 'marked'
    # so that they are not made again
    for part in 'generators', 'samples': shutil.copytree(out / part, marked / part)
    _, about = load_tensors(out / 'samples/cbdm.safetensors')
    marks = torch.full((about['count'],), -1)
    marks[:5] = 1
    save_marks(tmp_path / 'marks.json', dict(cbdm=(about, marks)))
    r = run_study(split, marked, 'tiny', marks=tmp_path / 'marks.json', rows=FEW, **QUIET)
    check_contract(r)
    for name in 'diffult', 'filter':
        assert r['filters'][f'cbdm+{name}']['kept'] == 5
        assert f'{len(marks)} by hand' in r['filters'][f'cbdm+{name}']['rule']
        assert r['filters'][f'ddpm+{name}']['kept'] == results['filters'][f'ddpm+{name}']['kept']
    with pytest.raises(InputError, match='its marks differs'):
        run_study(split, marked, 'tiny', rows=FEW, **QUIET)
    for part in 'generators', 'samples': shutil.copytree(out / part, tmp_path / 'ddpm' / part)
    r = run_study(split, tmp_path / 'ddpm', 'tiny', marks=tmp_path / 'marks.json', rows=['ce+cbdm+filter'], generators=['ddpm'], **QUIET)
    assert list(r['generators']) == ['ddpm']        # marks of samples that only a row has
    save_marks(tmp_path / 'other.json', dict(cbdm=(about | dict(seed=9), marks)))
    for part in 'generators', 'samples': shutil.copytree(out / part, tmp_path / 'again' / part)
    for file, says in ('other.json', 'of other samples than this study has'), ('none.json', 'none.json is missing'):
        args = f'study --data folder:{bars} --preset tiny --seeds 0 --rows all --out {tmp_path}/again --marks {tmp_path}/{file}'
        with pytest.raises(SystemExit) as e: main(args.split())
        err = capsys.readouterr().err
        assert e.value.code == 2 and says in err and err.count('\n') == 1


@pytest.mark.slow
def test_a_study_shows_generators_and_ways_of_sampling_that_are_asked_for_by_name(tmp_path):
    names = ['t2h', 'ddpm+interval:hi=3:w=1', 'ddpm+feedback']
    results = run_study(load_split('digits'), tmp_path / 'out', 'tiny', rows=['ce'], generators=names, **QUIET)
    check_contract(results)
    assert list(results['generators']) == names
    assert sorted(p.name for p in (tmp_path / 'out/generators').iterdir()) == ['ddpm', 't2h']
    few = [results['generators'][name]['few'] for name in names[1:]]
    assert few[0] != few[1]
    page = (tmp_path / 'out/report.html').read_text()
    assert all(name in page for name in names)
    said = []
    again = run_study(load_split('digits'), tmp_path / 'out', 'tiny', rows=['ce'], generators=names, seeds=[0], say=said.append)
    assert again == json.loads(json.dumps(results)) and 'nothing to do' in said[0]


def test_a_study_whose_images_have_come_to_know_their_balanced_set_is_not_finished(tmp_path):
    split, out, said = load_split('digits'), tmp_path / 'out', []
    r = run_study(replace(split, full=None), out, 'tiny', rows=['ce'], **QUIET)
    assert r['floor'] is None
    again = run_study(split, out, 'tiny', rows=['ce'], seeds=[0], say=said.append)
    assert again['floor'] and not any('nothing to do' in line for line in said)
