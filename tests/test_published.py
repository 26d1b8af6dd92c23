"The papers' settings: every row of the table is what its preset runs with, deviations are said, and old records stay valid."
from dataclasses import asdict, replace

import pytest
import torch

from ltnb.classifiers import ClassifierSettings, build, train_classifier
from ltnb.core import recorded
from ltnb.data import ImageSet, Split
from ltnb.diffusion import count_parameters, unet
from ltnb.published import PAPERS, SAME, WHO, Published, deviations, published_table
from ltnb.runs import Run
from ltnb.sources import load_split
from ltnb.report import LADDER
from ltnb.specs import GENERATORS, PRESETS, Learner, Recipe, run_settings
from ltnb.study import kept_run, run_study, study_generators, study_rows


def photographs(size, counts, of=2):
    def made(n):
        y = torch.arange(len(n)).repeat_interleave(torch.tensor(n))
        return ImageSet(torch.zeros(1, 3, size, size, dtype=torch.uint8).expand(len(y), -1, -1, -1), y)
    return Split('photographs', made(counts), made([of]*len(counts)), [str(c) for c in range(len(counts))], full=made([max(counts)]*len(counts)))


CIFAR100 = photographs(32, [int(500 * 100**(-c / 99)) for c in range(100)])


@pytest.mark.parametrize('preset', PAPERS)
@pytest.mark.parametrize('split, kind', [(CIFAR100, 'CIFAR'), (photographs(64, [1280, 5]), 'ImageNet'), (load_split('digits'), '')],
                         ids=['CIFAR', 'ImageNet', 'digits'])
def test_every_row_that_names_a_field_is_what_the_preset_runs_with(preset, split, kind):
    settings, fields = run_settings(split, preset), {}
    for row in PAPERS[preset]:
        if row.field and row.images in ('', kind): fields[row.field] = row.used      # a later row, for one kind, goes before
    assert len(fields) > 10
    for field, value in fields.items():
        x = settings
        for part in field.split('.'): x = x[part] if isinstance(x, dict) else getattr(x, part)
        assert x.items() >= value.items() if isinstance(value, dict) else x == value, field


@pytest.mark.parametrize('preset', PRESETS)
def test_where_the_balanced_set_is_not_known_test_images_take_its_place(preset, tmp_path):
    split = replace(CIFAR100, full=None)
    run = Run(split, tmp_path, run_settings(split, preset))
    assert run.real() is None and run.settings.metrics.real == 'held-out test images'
    assert any('held-out test images' in line for line in deviations(run.settings, split)) == (preset in PAPERS and preset != 'sau')


def test_figures_of_the_papers_themselves():
    cbdm, diffult, sau, paper = (run_settings(CIFAR100, p) for p in ('cbdm', 'diffult', 'sau', 'paper'))
    ddpm, own = cbdm.of_recipe(Recipe('ddpm')), cbdm.of_recipe(Recipe('cbdm'))
    assert (ddpm.steps, ddpm.batch_size, own.steps, own.batch_size) == (200_000, 64, 300_000, 48)
    assert 35.7e6 < count_parameters(unet(CIFAR100, cbdm.generator)) < 35.9e6
    assert sum(CIFAR100.counts) == 10_847 and diffult.sampling.per_class == 500
    aid = paper.of_recipe(Recipe('cbdm', aid=.1))
    assert (aid.steps, aid.batch_size, aid.augment) == (500_000, 128, .12) == tuple(getattr(diffult.generator, k) for k in ('steps', 'batch_size', 'augment'))
    assert paper.of_recipe(Recipe('cbdm')) == own and paper.of_recipe(Recipe('t2h')).steps == 200_000
    assert (diffult.aid_bound, diffult.aid_relative, cbdm.aid_bound, cbdm.aid_relative) == (100., False, 1., True)
    plain = diffult.classifier      # 200 epochs of what is trained on: of its own images, and of the filled set
    assert [plain.of(n).steps for n in (10_847, 50_000)] == [200 * n // 128 for n in (10_847, 50_000)]
    assert .45e6 < count_parameters(build(CIFAR100, plain)) < .48e6 and 7.3e6 < count_parameters(build(CIFAR100, sau.sau.classifier)) < 7.5e6
    draw = Run(CIFAR100, 'none', 'cbdm').draw
    assert (draw(Recipe('ddpm')).sampler, draw(Recipe('ddpm')).sampling_steps, draw(Recipe('cbdm')).guidance) == ('ddpm', 1000, 1.6)
    assert draw(Recipe('ddpm', policy='interval')).sampler == 'ddpm' and draw(Recipe('ddpm', policy='minority')).sampling_steps == 1000


def test_what_is_otherwise_is_said_and_what_nobody_says_too():
    said = lambda preset, split, **asked: deviations(run_settings(split, preset, **asked), split)
    lines = said('sau', CIFAR100)
    assert any('GLIDE' in line for line in lines)
    assert 'accuracy of SAU: of the epoch that is best on test images (release); here of the last epoch' in lines
    assert all(sum(line.startswith(f'{r.what}: ') for line in lines) == (r.here != SAME) for r in PAPERS['sau'] if r.images in ('', 'CIFAR'))
    assert 'sampling.steps: not known; here 1,000' in said('diffult', CIFAR100) and '1×8×8' in said('cbdm', load_split('digits'))[0]
    assert any('GLIDE' in line for line in said('paper', CIFAR100)) and said('small', CIFAR100) == [] and set(PAPERS) < set(PRESETS)
    for preset, rows in PAPERS.items():
        assert len(published_table(preset)) == len(rows)
        assert {r.by for r in rows} <= set(WHO) and all((r.value is None) == (r.by == 'nobody') for r in rows)


def test_what_is_asked_for_otherwise_is_among_what_is_otherwise():
    usual, asked = (deviations(run_settings(CIFAR100, 'diffult', **k), CIFAR100) for k in ({}, dict(features='pixels', network='ResNet50')))
    assert set(asked) - set(usual) == {'metrics.features: inception (inferred); here pixels', 'classifier.network: ResNet32 (paper); here ResNet50'}


def test_a_papers_preset_shows_that_papers_method():
    rows = {preset: study_rows(Run(load_split('digits'), 'none', preset), 'story') for preset in PRESETS}
    assert all((set(LADDER) <= set(rows[preset])) == (preset in ('diffult', 'paper')) for preset in PRESETS)
    assert all(preset in study_generators(rows[preset], preset=preset) for preset in PAPERS if preset in GENERATORS)
    assert 'cbdm+aid' in study_generators(rows['diffult'], preset='diffult') and study_generators(['ce'], ['ddpm'], 't2h') == ['ddpm']


def test_large_photographs_have_settings_of_their_own():
    large = photographs(64, [1280, 5])
    assert run_settings(large, 'sau').target == 1280 and run_settings(large, 'diffult').target == 300
    assert run_settings(large, 'diffult').generator.steps == run_settings(large, 'paper').methods['aid']['steps'] == 1_980_000
    lines = [line for line in deviations(run_settings(large, 'sau'), large) if 'network' in line or 'lr' in line]
    assert not lines    # the row for CIFAR does not hold there


TINY = {'generator.channels': (32, 32), 'generator.layers': 1, 'generator.steps': 8, 'generator.batch_size': 16, 'generator.warmup': 2,
        **{f'{c}.{k}': v for c in ('classifier', 'sau.classifier') for k, v in dict(network='SmallNet', width=8, epochs=1, batch_size=64).items()},
        'sau.hidden': 16, 'sau.dim': 8, 'sampling.steps': 3, 'sampling.per_class': 6, 'rounds': 1, 'target': 8}

@pytest.mark.parametrize('preset, rows, generators', [
    ('cbdm', ['ce', 'ce+cbdm'], ['cbdm']), ('diffult', ['ce+cbdm+aid+diffult+weight'], ['cbdm+aid']), ('sau', ['sau'], ['cbdm'])])
def test_a_study_with_a_papers_preset_from_end_to_end(monkeypatch, tmp_path, preset, rows, generators):
    changed = [r for r in PAPERS[preset] if r.what not in TINY and not r.what.startswith('methods.')]
    monkeypatch.setitem(PAPERS, preset, changed + [Published(k, v, 'paper') for k, v in TINY.items()])
    split, out, said = load_split('digits'), tmp_path / 'run', []
    study = lambda: run_study(split, out, preset, [0], features='pixels', rows=rows, workers=1, say=said.append)
    results = study()
    assert list(results['generators']) == generators
    assert results['deviations'] == deviations(run_settings(split, preset, 'pixels'), split) != []
    assert results['settings']['generator']['steps'] == 8 and results['floor']['overall']['recall'] is not None
    page = (out / 'report.html').read_text()
    assert 'real images' in page and f'or not known ({len(results["deviations"])})' in page and 'here 1×8×8' in page
    assert study()['classifiers'] == results['classifiers'] and said[-1].endswith('nothing to do')
    assert kept_run(out).settings == run_settings(split, preset, 'pixels')


def test_settings_at_their_defaults_are_recorded_as_they_were_before_there_were_later_ones():
    was = dict(preset=str, generator='channels layers attention dropout steps batch_size lr warmup decay ema label_drop drop_whole_batch flip augment '
               'shift patch batch_imbalance', classifier='network width steps batch_size optimizer lr warmup weight_decay augment',
               sau='classifier hidden dim', sampling='per_class steps guidance', metrics='k features real', rounds=int, target=None)
    now = recorded(run_settings(load_split('fashion'), 'small'))
    assert list(now) == list(was) and all(list(now[k]) == v.split() for k, v in was.items() if isinstance(v, str))
    assert 'sampler' in asdict(run_settings(load_split('digits'), 'small'))['sampling'] and 'passes' not in recorded(Learner('sau'))
    assert recorded(Learner('sau', passes=4))['passes'] == 4


def test_epochs_are_of_the_images_that_it_is_trained_on():
    split = load_split('digits')
    settings = ClassifierSettings(width=4, batch_size=64, epochs=2, warmup=1, drops=(.5,))
    seen = []
    train_classifier(split, split.train, settings=settings, watch=lambda i, losses: seen.append(i))
    assert seen[-1] + 1 == 2 * len(split.train) // 64 == settings.of(len(split.train)).steps
    assert settings.of(10).steps == 1 and replace(settings, epochs=None).of(10).steps == 600


def test_weight_decay_of_all_reaches_biases():
    split = load_split('digits')
    nets = [train_classifier(split, split.train, settings=ClassifierSettings(width=4, steps=3, warmup=0, optimizer='SGD', weight_decay=5., decay_all=d, lr=.1)) for d in (False, True)]
    norms = [sum(p.norm().item() for p in net.parameters() if p.ndim == 1) for net in nets]
    assert norms[1] < .7 * norms[0]
