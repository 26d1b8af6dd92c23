"The graph of parts: each is made once, when what it needs is there, and kept under its name."
import shutil
from collections import OrderedDict
from dataclasses import replace
from graphlib import TopologicalSorter

import pytest
import torch

from ltnb.classifiers import features
from ltnb.core import InputError, load_tensors, rng, save_tensors
from ltnb.diffusion import samples_about
from ltnb.experiments import EXPERIMENTS, training_set_figures
from ltnb.between import FILTERS
from ltnb.filtering import NeighbourAgreement
from ltnb.making import make, plan
from ltnb.metrics import class_figures
from ltnb.runs import Run, by_name, name_of, notebook_run, part
from ltnb.sources import load_split
from ltnb.specs import ALL_REAL, CLASSIFIERS, GENERATORS, REAL, Draw, Learner, Recipe, TrainingSet, recipe_of
from ltnb.study import study_parts, study_rows


FILTERED = TrainingSet(Recipe(), 'neighbours')
KEPT = GENERATORS['cbdm']


@pytest.fixture
def run(study, bars):
    "On the folder of a study, in which everything is made: to be read only."
    return Run(load_split(f'folder:{bars}'), study[1], 'tiny')


# ---- plans


def whole(run, wanted):
    "The plan, of which all that is needed is part, and which has no circle."
    graph = plan(run, wanted)
    assert set(wanted) <= set(graph)
    for this, needs in graph.items():
        assert needs == this[0].needs(run, *this[1:]) and set(needs) <= set(graph), this
    assert set(TopologicalSorter(graph).static_order()) == set(graph)     # a `CycleError` if there is a circle
    return graph


@pytest.mark.parametrize('preset', ['small', 'paper'])
def test_rows_that_go_on_from_another_are_made_after_it_and_saus_network_has_a_baseline(preset, tmp_path):
    run = Run(load_split('digits'), tmp_path, preset)
    parts = study_parts(run, [0, 1], [0, 1])
    graph = whole(run, list(parts.values()))
    trained = lambda row: (Run.trained, *CLASSIFIERS[row], 1 if CLASSIFIERS[row][0].recipe else None, 1)
    for row, first in {'crt': 'ce', 'crt+cbdm+filter+weight': 'ce+cbdm+filter+weight'}.items():
        assert trained(first) in graph[trained(row)]
    for row in study_rows(run):     # one with adjusted logits is the classifier of the other, whose test has both
        (f, *key), = graph[parts[(row, *trained(row)[3:])]]
        assert f is (Run.tested if row.endswith('+adjusted') else Run.trained)
        assert (Run.trained, *key) == trained(row.removesuffix('+adjusted'))
    assert not any(f is Run.trained and key[1].tau for f, *key in graph)
    assert ('ce-wide' in study_rows(run)) == (('ce-wide', None, 0) in parts) == (preset == 'paper')
    of = lambda row: run.settings.of_learner(CLASSIFIERS[row][1])[1]
    assert of('ce-wide') == of('sau') and (of('ce') == of('sau')) == (preset == 'small')
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('name', EXPERIMENTS)
def test_all_that_experiments_need_is_planned(name, tmp_path):
    run, wanted = Run(load_split('digits'), tmp_path, 'tiny'), []
    for what, ways in EXPERIMENTS[name](Draw()).items():
        if isinstance(what, Recipe): wanted += [(Run.drawn_figures, what, 0, way) for way in ways]
        else:
            g = 0 if what.recipe else None
            wanted += [(training_set_figures, what, g)] * bool(what.recipe)
            wanted += [(Run.tested, what, way, g, 0) for way in ways]
    graph = whole(run, wanted)
    recipes = {getattr(what, 'recipe', what) for what in EXPERIMENTS[name](Draw())} - {None}
    assert {key[0] for f, *key in graph if f is Run.generator} >= {recipe.trained for recipe in recipes}
    order = [f for f, *_ in graph if f in (Run.generator, Run.samples, Run.drawn_figures)]
    assert order == sorted(order, key=[Run.generator, Run.samples, Run.drawn_figures].index)     # those that others wait for


def test_a_fine_tuned_generator_needs_its_base_and_one_with_aid_the_judge(tmp_path):
    run = Run(load_split('digits'), tmp_path, 'tiny')
    tuned = Recipe(prior='uniform', fine_tuned=True)
    assert whole(run, [(Run.generator, tuned, 3)])[Run.generator, tuned, 3] == [(Run.generator, Recipe('ddpm'), 3)]
    aid = Recipe(aid=.1)
    judge = (Run.trained, REAL, Learner(), None, 0)
    assert whole(run, [(Run.generator, aid, 3)])[Run.generator, aid, 3] == [judge] == [run.reference(REAL)]


MADE = []


@part(lambda run, x: [])
def base(run, x):
    MADE.append(('base', x))
    return x


@part(lambda run, x: [(base, x), (base, x), (base, 0)])
def above(run, x):
    MADE.append(('above', x))
    return 2 * x


def test_a_part_wanted_twice_is_made_once_and_after_what_it_needs(tmp_path):
    MADE.clear()
    run, done = Run(load_split('digits'), tmp_path, 'tiny'), []
    wanted = [(above, 1), (base, 1), (above, 1), (above, 2)]
    whole(run, wanted)
    assert make(run, wanted, 1, on_done=lambda p, seconds: done.append(p)) == {
        (above, 1): 2, (base, 1): 1, (above, 2): 4}
    assert sorted(MADE) == [('above', 1), ('above', 2), ('base', 0), ('base', 1), ('base', 2)]
    for n in 1, 2: assert MADE.index(('above', n)) > max(MADE.index(('base', n)), MADE.index(('base', 0)))
    assert sorted((f.__name__, x) for f, x in done) == sorted(MADE)


# ---- what is kept


def test_a_filled_training_set_that_is_kept_computes_no_filter_report(run, monkeypatch):
    def refuse(*args, **kwargs): raise AssertionError('a filter report was computed')
    monkeypatch.setattr('ltnb.runs.filter_report', refuse)
    monkeypatch.setattr('ltnb.runs.fill_classes', refuse)
    filled = run.filled(FILTERED)
    assert filled.data.sha256 == run.training_set(FILTERED, 0).sha256 and filled.rounds <= run.settings.rounds
    assert filled.data.counts(3) == [24 - filled.missing.get(c, 0) for c in range(3)]
    with pytest.raises(AssertionError, match='was computed'): run.filled(TrainingSet(Recipe(), 'band'))


def test_the_control_of_a_filter_fills_with_as_many_samples_from_the_same_draws(run):
    filled, control = run.filled(FILTERED), run.filled(replace(FILTERED, filter='as_many'))
    for of in ('generated', 'accepted', 'rounds', 'missing'): assert getattr(filled, of) == getattr(control, of), of
    assert filled.data.counts(3) == control.data.counts(3) and filled.data.sha256 != control.data.sha256


def test_filters_and_figures_pass_the_same_images_through_a_classifier_once(run, monkeypatch):
    def sets(seen): return sorted(len(images) for images in seen)
    seen, images = [], run.samples(KEPT).images
    monkeypatch.setattr('ltnb.compute._answers', OrderedDict())
    monkeypatch.setattr('ltnb.runs.features', lambda net, images: seen.append(images) or features(net, images))
    reports = [run.filter_report(TrainingSet(KEPT, name), 0) for name in ('diffult', 'band', 'neighbours')]
    assert sets(seen) == sets([run.split.train.images, images])
    assert len({r.rule for r in reports}) == 3
    class_figures(run.split, images, run.samples(KEPT).labels, run.space(), groups=run.split.groups)
    assert sets(seen) == sets([run.split.train.images, images, run.split.test.images])


def test_an_interrupted_filling_goes_on_where_it_stopped(run, tmp_path, monkeypatch):
    what, drawn, images, settings = replace(FILTERED, target=4.), [], Run.images, replace(run.settings, rounds=1)
    whole = Run(run.split, shutil.copytree(run.out, tmp_path / 'whole'), settings).filled(what)
    mine = Run(run.split, shutil.copytree(run.out, tmp_path / 'mine'), settings)
    def stops(self, recipe, labels, seed=0, draw=None, first=0):
        if len(drawn) == 2: raise KeyboardInterrupt
        drawn.append((first, len(labels)))
        return images(self, recipe, labels, seed, draw, first)
    monkeypatch.setattr('ltnb.training.PART', 64)
    monkeypatch.setattr(Run, 'images', stops)
    with pytest.raises(KeyboardInterrupt): mine.filled(what)
    assert len(list((tmp_path / 'mine/filled').glob('*.checkpoint.safetensors'))) == 2
    monkeypatch.setattr(Run, 'images', lambda self, recipe, labels, seed=0, draw=None, first=0:
                        drawn.append((first, len(labels))) or images(self, recipe, labels, seed, draw, first))
    assert mine.filled(what).data.sha256 == whole.data.sha256
    assert len(set(drawn)) == len(drawn) > 2 and not list((tmp_path / 'mine').rglob('*.checkpoint.safetensors'))


def test_another_judge_target_or_size_is_refused(run, tmp_path):
    out = shutil.copytree(run.out, tmp_path / 'out')    # where another judge is trained before that is seen
    with pytest.raises(InputError, match='was made with another phi, run'):
        Run(run.split, out, 'tiny', seed=1).filled(FILTERED)
    with pytest.raises(InputError, match='was made with another settings'):
        Run(run.split, out, 'small').generator('ddpm')


def test_what_was_made_with_a_judge_that_is_trained_anew_is_made_again(run, tmp_path, caplog):
    out, recipe = shutil.copytree(run.out, tmp_path / 'out'), GENERATORS['cbdm+aid']
    def all_of(): # as another process would, which has nothing in memory
        run = Run(load_split(run_data), out, 'tiny')
        return [repr(x) for x in (run.generator(recipe).training['loss'], run.figures(KEPT), run.filled(FILTERED).accepted)]  # of NaN, too
    run_data, path = run.split.source['data'], run.classifier_file(*run.reference(REAL)[1:])
    file = out / path.relative_to(run.out)
    all_of()    # makes what the study lacks
    caplog.clear()
    before = all_of()
    assert not caplog.records
    tensors, about = load_tensors(file)
    save_tensors(file, {k: v + .03 * torch.randn(v.shape, generator=rng(0)) if v.is_floating_point() and v.ndim > 1 else v
                        for k, v in tensors.items()}, about=about['about'])
    all_of()
    said = [r.message for r in caplog.records]
    for what, inputs in {'cbdm+aid': 'loss', 'cbdm.json': 'source', 'cbdm+neighbours.safetensors': 'phi'}.items():
        assert any(f'{what} was made of another {inputs}: moved to ' in m for m in said), (what, said)
    assert len(said) == 3
    after = all_of()
    assert after[0] != before[0] and after[1] != before[1] and len(caplog.records) == 3


def test_a_classifier_is_trained_anew_where_its_filled_set_has_another_size(run, tmp_path, monkeypatch, caplog):
    "Class counts in a loss, and the number of steps in epochs, follow from the training set."
    settings = replace(run.settings, classifier=replace(run.settings.classifier, epochs=2))
    filled, la = run.training_set(FILTERED), by_name('la', CLASSIFIERS)[1]
    def trained(data):
        monkeypatch.setattr(Run, 'training_set', lambda self, what, seed: data)
        return Run(run.split, tmp_path, settings).trained(FILTERED, la, 0, 0)
    for _ in range(2): trained(filled)
    assert not caplog.messages
    for _ in range(2): trained(filled[torch.arange(len(filled) - 9)])
    assert len(caplog.messages) == 1 and 'was made of another loss, settings, data: moved to' in caplog.messages[0]


def test_a_filter_that_was_changed_is_noticed(run, monkeypatch):
    run.filled(FILTERED)
    monkeypatch.setitem(FILTERS, 'neighbours', lambda phi: NeighbourAgreement(k=3))
    with pytest.raises(InputError, match='was made with another rule'): run.filled(FILTERED)


def test_a_row_of_another_size_is_refused(run, tmp_path):
    mine = Run(run.split, tmp_path, 'tiny')
    mine.kept_row('row', dict(seed=0), lambda: dict(recall=.5))
    assert mine.kept_row('row', dict(seed=0), lambda: 1 / 0) == dict(recall=.5)
    with pytest.raises(InputError, match='was made with another run'):
        Run(run.split, tmp_path, 'small').kept_row('row', dict(seed=0), lambda: 1 / 0)


def test_where_the_balanced_set_is_not_known_one_line_says_so(run, tmp_path):
    alone = Run(replace(run.split, full=None), tmp_path, 'tiny')
    for ask in (lambda: alone.training_set('oracle'), lambda: alone.score('oracle'),
                lambda: alone.filter_of(TrainingSet(Recipe(), 'oracle'))):
        with pytest.raises(InputError, match='balanced set is not known'): ask()
    assert len(alone.split.left_out) == 0
    tested = run.tested(REAL, Learner(tau=1.), None, 0)
    assert set(tested) == {'rho', 'published', 'test'} and tested['rho'] == 0     # nothing can be chosen


def test_a_generator_that_knows_only_some_classes_is_not_measured_on_all(run, tmp_path):
    run = Run(run.split, tmp_path, 'tiny')
    with pytest.raises(InputError, match='does not know all classes'): run.figures(Recipe(head=0.))
    every_class = Run(load_split('digits', 2.), run.out, 'tiny')
    with pytest.raises(InputError, match='no class with fewer than 20'): every_class.split_of(Recipe(head=0.))


def test_wrong_labels_are_a_share_of_the_generated_ones_and_real_ones_keep_theirs(run):
    right, wrong = (run.training_set(TrainingSet(Recipe(), wrong=w), 0) for w in (0., .5))
    assert torch.equal(right.synthetic, wrong.synthetic) and torch.equal(right.images, wrong.images)
    differ = right.labels != wrong.labels
    assert not differ[~right.synthetic].any() and .2 < differ[right.synthetic].float().mean() < .8


def test_only_few_fills_up_the_rarest_classes(run):
    assert run.target(TrainingSet(Recipe())) == [24, 24, 24]
    assert run.target(TrainingSet(Recipe(), target=2.)) == [48] * 3
    assert run.target(TrainingSet(Recipe(), only_few=True)) == [0, 24, 24]
    assert run.target(TrainingSet(Recipe(), added=True)) == [24 + n for n in run.split.counts]


def test_as_many_generated_images_may_be_added_to_every_class(run, tmp_path):
    other = Run(run.split, shutil.copytree(run.out, tmp_path / 'copy'), run.settings, run.seed)
    data = other.training_set(TrainingSet(Recipe(), added=True), 0)
    assert torch.bincount(data.labels[data.synthetic]).tolist() == [run.settings.sampling.per_class]*3    # all that there are; tiny draws no more
    assert data[~data.synthetic].counts(3) == run.split.counts


def test_a_generator_may_see_less_of_the_head_or_another_tail():
    run = Run(load_split('digits'), 'nowhere', 'tiny')
    assert run.split_of(Recipe()) is run.split and run.split_of(Recipe(imbalance_factor=5.)).counts[9] == 22
    assert run.split_of(Recipe(head=.5)).counts == [57, 40, 29, 20, 15, 10, 15, 11, 7, 5]
    none = run.split_of(Recipe(head=0.))
    assert none.class_names == ['6', '7', '8', '9'] and none.counts == [15, 11, 7, 5]
    assert torch.equal(none.train.of_class(3).images, run.split.train.of_class(9).images)


def test_a_shift_reaches_the_training_and_makes_another_generator(tmp_path):
    run = Run(load_split('digits'), tmp_path, 'tiny')
    run.settings = replace(run.settings, generator=replace(run.settings.generator, steps=2))
    plain, shifted = (run.generator(Recipe('ddpm', shift=s)) for s in (0., .5))
    assert [p.training['settings']['shift'] for p in (plain, shifted)] == [0, .5]
    assert not torch.equal(plain.unet.conv_out.weight, shifted.unet.conv_out.weight)
    assert {p.name for p in (tmp_path / 'generators').iterdir()} == {'ddpm', 'ddpm-shift0.5'}
    assert run.generator('ddpm').training['settings']['shift'] == 0     # loaded


def test_another_way_of_drawing_reaches_a_training_set_and_has_files_of_its_own_but_not_another_generator(run, tmp_path):
    for part in 'generators', 'classifiers', 'samples', 'filled':
        shutil.copytree(run.out / part, tmp_path / part)
    mine, usual, guided = (Run(run.split, tmp_path, 'tiny'), TrainingSet(Recipe('ddpm')),
                           TrainingSet(recipe_of('ddpm+interval:hi=3:w=1.5')))
    graph = whole(mine, [(Run.filled, guided, 0)])
    assert (Run.samples, guided.recipe, 0) in graph and (Run.samples, Recipe('ddpm'), 0) not in graph
    assert [p for p in graph if p[0] is Run.generator] == [(Run.generator, Recipe('ddpm'), 0)]
    asks = whole(mine, [(Run.samples, recipe_of('ddpm+feedback'), 0)])
    assert mine.reference(REAL) in asks and mine.reference(REAL) not in whole(mine, [(Run.samples, Recipe('ddpm'), 0)])
    a, b = (mine.training_set(what, 0) for what in (usual, guided))
    assert torch.equal(a.labels, b.labels) and not torch.equal(a.images, b.images)
    drawn = [samples_about(tmp_path / f'samples/{name}.safetensors') for name in ('ddpm', 'ddpm+interval-hi3-w1.5')]
    assert [d['guidance'] for d in drawn] == [0, 1.5] and drawn[0]['policy'] is None
    assert drawn[1]['policy'] == dict(name='Interval', lo=.3, hi=3.)
    assert mine.samples_file(guided.recipe, 2).name == 'ddpm+interval-hi3-w1.5@2.safetensors'
    assert (tmp_path / 'filled/ddpm+interval-hi3-w1.5+none.safetensors').exists()
    assert sorted(p.name for p in (tmp_path / 'generators').iterdir()) == sorted(p.name for p in (run.out / 'generators').iterdir())
    assert torch.equal(mine.samples(guided.recipe).images[:2], mine.images('ddpm', torch.zeros(2, dtype=int),
                                                                           draw=mine.draw(guided.recipe)))


def test_parts_have_names_and_an_unknown_name_is_refused(run):
    assert run.file('samples', 'cbdm').name == 'cbdm.safetensors' and run.samples_file('cbdm+aid', 2).name == (
        'cbdm+aid@2.safetensors')
    assert name_of(KEPT, GENERATORS) == 'cbdm' and name_of(Recipe(tau=2.), GENERATORS) == 'cbdm-tau2'
    assert name_of((ALL_REAL, Learner()), CLASSIFIERS) == 'oracle'
    assert name_of((FILTERED, Learner('sau', strategy='drop')), CLASSIFIERS) == 'cbdm neighbours sau-drop'
    assert by_name('ddpm', GENERATORS) == by_name(Recipe('ddpm'), GENERATORS) == Recipe('ddpm')
    with pytest.raises(InputError, match="unknown name 'gan': it is one of ddpm, cbdm, cbdm.aid"): run.generator('gan')


def test_what_a_study_made_is_there_for_notebooks(run, monkeypatch):
    def refuse(*args, **kwargs): raise AssertionError('something was trained')
    for name in 'generators', 'classifiers': assert list((run.out / name).iterdir())
    monkeypatch.setattr('ltnb.generators.train', refuse)
    monkeypatch.setattr('ltnb.classifiers.train', refuse)
    monkeypatch.setenv('LTNB_RUN', str(run.out))
    monkeypatch.setenv('LTNB_SIZE', 'tiny')
    mine = notebook_run(run.split.source['data'])
    assert mine.out == run.out and mine.settings == run.settings and run.oracle() is None and run.judge() is None
    assert mine.generator('cbdm').training['settings']['steps'] == 40
    assert len(mine.samples('cbdm')) == 3 * run.settings.sampling.per_class
    assert mine.classifier('sau')(torch.zeros(2, 3, 8, 8)).shape == (2, 3)
