"The explorers without a browser: state, edge cases, what is computed, and nothing left behind."
import base64
import gc
import html
import io
import itertools
import json
import re
import threading
import time
import weakref
from dataclasses import replace

import ipywidgets
import matplotlib.pyplot as plt
import pytest
import torch
from conftest import ROOT
from PIL import Image

from ltnb.classifiers import ClassifierSettings, build, features, logits
from ltnb.core import InputError, load_tensors, rng
from ltnb.training import train
from ltnb.data import ImageSet, Split, tail_classes
from ltnb.sources import load_split
from ltnb.diffusion import ddpm_loss, draw_samples, generator_settings, sample, with_sampler
from ltnb.between import FILTERS
from ltnb.filtering import Band, DropOOD, Filter, NeighbourAgreement, OnlyKind
from ltnb.generators import load_generator, train_generator
from ltnb.metrics import class_figures, flat, prdc
from ltnb.marks import load_marks
from ltnb.policies import POLICIES, Interval, policy_of
from ltnb.runs import notebook_run
from ltnb.widgets import (BOTH, DenoisingPath, FilterExplorer, Gallery, GuidanceExplorer, MissedModes, Page, TailBrowser,
                          TailCompare, TailMap, TailWall, TrainingMonitor, as_svg, draw_page, stand_in_gallery)
from ltnb.widgets.base import as_png, named_in
from ltnb.widgets.gallery import _generator_of
from ltnb.widgets.map import MOST

MADE = weakref.WeakSet()    # widgets
ipywidgets.Widget.on_widget_constructed(MADE.add)


def threads(): return {t for t in threading.enumerate() if t.name != 'tqdm_monitor'}   # which tqdm starts with its first bar


def open_widgets(): return sum(w.comm is not None for w in MADE)


def all_widgets(root): # it, and what is in it
    yield root
    for w in getattr(root, 'children', ()): yield from all_widgets(w)


def click(view, text):
    "Click the button that says `text`."
    next(w for w in all_widgets(view.root) if getattr(w, 'description', '') == text).click()


def send(grid, **message): grid._handle_custom_msg(message, [])     # as the browser does


def images(n, shape, seed=0): return torch.randint(256, (n, *shape), dtype=torch.uint8, generator=rng(seed))


def made_up(counts=(9, 5, 1), samples=(6, 50, 0), shape=(3, 32, 32)):
    "A split of noise, and samples of it: of the last class none."
    labels = lambda n: torch.arange(len(n)).repeat_interleave(torch.tensor(n))
    split = Split('made up', ImageSet(images(sum(counts), shape), labels(counts)),
                  ImageSet(images(30, shape, 1), torch.arange(30) % len(counts)), [f'c{i}' for i in range(len(counts))])
    return split, ImageSet(images(sum(samples), shape, 2), labels(samples), torch.ones(sum(samples), dtype=torch.bool))


def judge(x): return flat(x)[:, :3]


@pytest.fixture
def gallery():
    split, samples = made_up()
    about = dict(seed=3, per_class=0, sampler='s', steps=5, guidance=0., generator_sha256='ab', generator='there')
    return Gallery(split, dict(a=samples, b=samples), flat, judge, dict(a=about))


@pytest.fixture(scope='module')
def pipe():
    split = load_split('digits')
    return train_generator(split, settings=replace(generator_settings(split, 'tiny'), steps=2))


@pytest.fixture(scope='module', autouse=True)
def only_what_is_new_is_collected():
    "All that was imported is left out of the garbage collections below, which it makes slow."
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(autouse=True)
def nothing_is_left():
    gc.collect()
    widgets, before = open_widgets(), threads()
    yield
    gc.collect()
    assert open_widgets() == widgets
    for _ in range(400):
        if threads() <= before: break
        time.sleep(.05)
    assert threads() <= before
    plt.close('all')


# ---- TailBrowser

@pytest.mark.parametrize('shape', [(1, 8, 8), (3, 8, 8), (1, 28, 28), (3, 32, 32), (3, 32, 48)], ids=str)
def test_gray_and_colour_images_of_any_size(shape):
    split, samples = made_up(shape=shape)
    b = TailBrowser(Gallery(split, dict(a=samples)), 1)
    b.open()
    page = b.view.samples.page
    assert page['shape'] == [48, *shape] and page['pixels'] == samples.images[6:54].numpy().tobytes()
    b.page = 2
    assert b.view.samples.page['shape'][0] == 2 and b.view.samples.page['captions'] == ['#54', '#55']
    b.selected = ('a', 55)
    assert b.figure().axes
    b.close()


def test_an_empty_class_and_a_class_with_one_image(gallery):
    b = TailBrowser(gallery)
    assert (b.cls, b.entries, b.pages) == (2, [], 1)      # the rarest: one training image, no sample
    for b.sort in 'number', 'distance', 'confidence', 'relative':
        for b.kind in 'all', 'OOD': assert b.entries == []
    b.open()
    assert b.view.samples.page['shape'] == [0, 3, 32, 32] and b.view.reals.page['shape'][0] == 1
    b.generator = BOTH
    assert set(b.entries) == {None}
    b.figure()
    send(b.view.samples, page=1), send(b.view.samples, page=-1)
    assert b.page == 1
    b.close()


def test_bad_input_is_one_line(gallery, pipe):
    b, e = TailBrowser(gallery, 1), FilterExplorer(gallery)
    c = TailCompare(gallery.split, dict(a=judge))
    g, m = GuidanceExplorer(gallery.split, dict(one=pipe)), TailMap(gallery, 1)
    wrong = ImageSet(gallery.samples['a'].images, gallery.samples['a'].labels - 1)
    setting = lambda explorer, name, value: lambda: setattr(explorer, name, value)
    for f, says in [(lambda: Gallery(gallery.split, {}), 'at least one generator'),
                    (lambda: Gallery(gallery.split, wrong), 'no samples of'),
                    (lambda: TailBrowser(gallery, 7), 'class: 7 is none of'),
                    (setting(b, 'cls', None), 'class: None is none of'),
                    (setting(b, 'selected', ('a', 999)), 'selected cannot be'),
                    (setting(b, 'selected', ('z', 1)), 'selected cannot be'),
                    (setting(b, 'selected', 3), 'selected cannot be'),
                    (setting(b, 'page', 1.5), 'whole number'), (setting(b, 'page', 'one'), 'whole number'),
                    (setting(b, 'backwards', 'yes'), 'backwards'), (setting(b, 'file', 3), 'file'),
                    (setting(g, 'guidance', 5.), 'guidance w: 5.0 is not a number between -0.9 and 4'),
                    (setting(g, 'policy', 'none'), "unknown policy 'none'"), (setting(g, 'policy', 'interval:hi=x'), 'must be of type float'),
                    (setting(g, 'policy', 'interval:lo=3'), 'goes up'), (setting(g, 'policy', 3), 'is no text'),
                    (setting(g, 'policy', 'feedback'), 'asks a classifier'), (setting(g, 'place', 16), 'whole number'),
                    (lambda: g.move_interval((1., 1.)), 'goes up'),
                    (setting(m, 'classes', 7), 'classes: 7 is none of'), (setting(m, 'space', 'x'), 'is none of features, pixels'),
                    (setting(m, 'method', 'LDA'), "'LDA' is none of PCA"), (setting(m, 'k', 0), 'whole number between 1 and 200'),
                    (setting(m, 'sources', ('z',)), 'they are some of training, held out, a, b'), (setting(m, 'sources', 'a'), 'sources cannot be'),
                    (setting(m, 'selected', [('a', 0)]), "selected cannot be \\('a', 0\\): it is not on the map"),   # of another class
                    (setting(m, 'selected', ('a', 6)), 'not on the map'), (setting(m, 'selected', 3), 'it is a list'),
                    (setting(m, 'selected', [('a', [])]), 'not on the map'), (setting(m, 'point', ('b', 999)), 'point cannot be'),
                    (setting(m, 'window', (0., 0., 1., 2.)), 'window cannot be'), (setting(m, 'window', 'x'), 'window cannot be'),
                    (lambda: m.lasso([(0, 0), (1, 1)]), 'at least three corners'), (lambda: m.lasso('abc'), 'at least three corners'),
                    (m.zoom, 'select points'), (m.near, 'go to a point first'),
                    (lambda: TailMap(Gallery(gallery.split, dict(training=gallery.samples['a']))), 'cannot be called'),
                    (setting(e, 'thresholds', (1., 2.)), 'thresholds cannot be'),
                    (setting(e, 'thresholds', ('a',)), 'thresholds cannot be'),
                    (setting(c, 'cell', ('a', 0, 9)), 'cell cannot be'), (setting(c, 'cell', 'a'), 'cell cannot be'),
                    (lambda: GuidanceExplorer(gallery.split, {}), 'at least one generator'),
                    (lambda: DenoisingPath(gallery.split, {}), 'at least one generator'),
                    (lambda: TailCompare(gallery.split, {}), 'at least one classifier')]:
        with pytest.raises(InputError, match=says) as error: f()
        assert '\n' not in str(error.value)
    assert (b.selected, b.page, e.thresholds, c.cell) == (None, 1, (2.,), None)


def test_no_samples_at_all():
    split, samples = made_up()
    g = Gallery(split, dict(a=samples[:0]), flat, judge)
    b, e = TailBrowser(g), FilterExplorer(g)
    assert b.entries == [] and b.pages == 1 and len(b.figure().axes) == 2
    assert len(e.keep) == 0 and e.description(True) == 'kept 0 of 0' and len(e.figure().axes) == 4


def test_sorting_and_filtering_are_by_the_facts(gallery):
    b = TailBrowser(gallery, 1)
    real = flat(gallery.split.train.of_class(1).images)
    d = lambda entries: [torch.cdist(flat(gallery.samples[n].images[i][None]), real).min().item() for n, i in entries]
    b.sort = 'distance'
    assert d(b.entries) == pytest.approx(sorted(d(b.entries)), abs=1e-4)
    b.backwards = True
    assert d(b.entries) == pytest.approx(sorted(d(b.entries), reverse=True), abs=1e-4)
    kinds = gallery.facts('kind', 'b', 1)
    sizes = []
    for i, b.kind in enumerate(('ID', 'AID', 'OOD')):
        sizes.append(len(b.order('b')))
        assert sizes[-1] == (kinds == i).sum()
    assert sum(sizes) == 50
    with pytest.raises(InputError, match='none of all, ID, AID, OOD'): b.kind = 'id'
    with pytest.raises(InputError, match='class: 7 is none of 0, 1, 2'): b.cls = 7
    plain = TailBrowser(Gallery(gallery.split, gallery.samples))
    with pytest.raises(InputError, match='confidence'): plain.sort = 'confidence'     # without a judge


def test_what_the_reader_does_reaches_the_state_and_comes_back(gallery):
    b = TailBrowser(gallery, 1)
    v = b.open()
    v.samples.selected = 4
    assert b.selected == ('b', 10) and 'sample 10' in v.info.value and v.near.page['captions'][0] == 'the sample'
    for key in 'drop', 'drop', 'keep': send(v.samples, mark=key)
    assert b.marks['b'].nonzero()[:, 0].tolist() == [10, 11, 12] and b.marks['b'][10:13].tolist() == [-1, -1, 1]
    assert v.samples.page['marks'][4:7] == ['drop', 'drop', 'keep'] and v.samples.selected == 7
    send(v.samples, page=1)
    assert (b.page, b.selected, v.samples.selected, v.controls['page'].value) == (2, None, -1, 2)
    v.controls['cls'].value = 0
    assert (b.cls, b.page) == (0, 1) and 'c0' in v.heading.value and v.controls['page'].max == 1
    v.controls['generator'].value = BOTH
    assert b.generator == BOTH and v.samples.page['rows'] == ['a', '', '', 'b', '', '']
    b.cls = 1
    assert v.controls['cls'].value == 1
    click(v, 'Keep (k)')
    assert 'select a sample first' in v.message.value
    b.selected = ('a', 7)
    click(v, 'Keep (k)')
    assert v.message.value == '' and b.marks['a'][7] == 1
    click(v, '▶')
    assert b.page == 2
    b.close()


JS = (ROOT / 'ltnb/widgets/grid.js').read_text()
MESSAGES = dict(open=[0, 4, 47, 999], mark=['keep', 'drop', '', 'perhaps'], mark_page=['keep', 'drop', '', 'perhaps'], page=[1, -1],
                like=[True], help=[True])   # 999: no such place


def test_these_are_the_messages_of_the_grid():
    assert set(re.findall(r'send\(\{ (\w+):', JS)) == {*MESSAGES}
    assert set(re.findall(r'\w: "(\w*)"', re.search(r'MARKS = .*', JS)[0])) <= {*MESSAGES['mark']}


@pytest.mark.parametrize('before', [None, ('b', 10), ('a', 0)], ids=['none', 'on the page', 'elsewhere'])
@pytest.mark.parametrize('key, value', [(k, v) for k, values in MESSAGES.items() for v in values] + [('new', 1)])
def test_every_message_of_the_grid_is_handled(gallery, key, value, before, caplog):
    b = TailBrowser(gallery, 1)
    v = b.open()
    b.selected = before
    for grid in v.samples, v.near, v.reals: send(grid, **{key: value})
    assert caplog.records == []     # where ipywidgets reports errors
    if key == 'open': assert b.selected == (None if value == 999 else ('b', 6 + value))
    if key == 'open' and value != 999: assert v.samples.selected == value and v.near.page['captions'][0] == 'the sample'
    if key == 'page': assert b.page == max(1, 1 + value)
    if key == 'mark' and value != 'perhaps' and before:
        assert b.marks[before[0]][before[1]] == dict(keep=1, drop=-1).get(value, 0)
        assert b.selected == (('b', 11) if before[0] == 'b' else before)
    if key == 'new': assert b.selected == before and b.page == 1 and v.message.value == ''
    b.close()


def test_opening_a_place_selects_it_in_every_explorer(gallery, pipe):
    c = TailCompare(gallery.split, dict(a=judge, b=judge))
    p = DenoisingPath(load_split('digits'), dict(a=pipe), steps=4)
    send(c.open().grids[1], open=4)
    assert c.cell == ('b', c.rows[1], c.columns[1])
    send(p.open().film, open=2), send(p.view.large, open=1), send(c.view.images, mark='keep')
    assert p.step == 3 and c.view.message.value == p.view.message.value == ''
    c.close(), p.close()


def test_the_view_is_brought_up_to_date_once_for_each_change(gallery):
    class Counting(TailBrowser):
        times = 0
        def update_view(self, view):
            self.times += 1
            super().update_view(view)
    b = Counting(gallery, 1)
    b.open()
    b.page, b.selected = 2, ('b', 55)
    n = b.times
    b.cls = 0       # the page and what is selected change with it
    assert (b.page, b.selected, b.times) == (1, None, n + 1)
    b.cls = 0
    assert b.times == n + 1
    b.close()


def test_what_is_said_of_a_sample_goes_over_to_what_is_said_of_the_next_at_once(gallery):
    b = TailBrowser(gallery, 1)
    v, said = b.open(), []
    v.info.observe(lambda change: said.append(change['new']), 'value')
    for v.samples.selected in 4, 6: send(v.samples, open=v.samples.selected)
    assert ['sample 10' in said[0], 'sample 12' in said[1], len(said)] == [True, True, 2]
    b.close()


def test_marks_go_to_a_file_and_back(gallery, tmp_path):
    b = TailBrowser(gallery, 1)
    b.generator = 'a'
    b.selected = ('a', 7)
    b.mark('drop')
    path = b.save_marks(tmp_path / 'marks.json')
    drawn = dict(seed=3, per_class=0, sampler='s', steps=5, guidance=0., policy=None, generator_sha256='ab')
    assert load_marks(path) == [dict(generator='a', drawn=drawn, keep=[], drop=[7], reasons={})]
    b.reason = 'a <copy>'
    b.mark('drop')
    assert load_marks(b.save_marks(path))[0]['reasons'] == {7: 'a <copy>'}
    again = TailBrowser(gallery)
    again.load_marks(path)
    assert torch.equal(again.marks['a'], b.marks['a']) and not again.marks['b'].any()
    again.selected = ('a', 7)
    assert again.description().endswith('dropped by hand: a <copy>')
    again.mark('')
    assert again.reasons['a'] == {}
    again.mark('drop')
    good = path.read_text()
    for text in '', '[]', '{"marks": 3}', good.replace('[\n    7', '[\n    "7"'), good.replace('7', '-7'), good.replace('"7":', '"8":'), good[:50]:
        path.write_text(text)
        with pytest.raises(InputError, match='marks.json') as e: again.load_marks(path)
        assert '\n' not in str(e.value)
    with pytest.raises(InputError, match='is missing'): again.load_marks(tmp_path / 'none.json')
    assert again.marks['a'].sum() == -1


def test_the_recipe_draws_the_sample_again(pipe, tmp_path):
    split = load_split('digits')
    settings = replace(generator_settings(split, 'tiny'), steps=2)
    train_generator(split, settings=settings, path=tmp_path / 'generators/ddpm')
    pipe = load_generator(tmp_path / 'generators/ddpm')
    samples = draw_samples(pipe, split, 3, tmp_path / 'samples/ddpm.safetensors', seed=5, guidance=.5, steps=4)
    b = TailBrowser(Gallery(split, tmp_path))       # a study's folder, as far as it has come
    b.selected = ('ddpm', 28)
    assert torch.equal(eval(b.recipe())[0], samples.images[28]) and 'seed 5' in b.description()
    (tmp_path / 'generators/ddpm@1').mkdir()
    other = draw_samples(with_sampler(pipe, 'ddim'), split, 3, tmp_path / 'samples/ddpm+interval-hi1-w1.safetensors', guidance=1., steps=4, policy=Interval(hi=1.))
    b = TailBrowser(Gallery(split, tmp_path))
    b.selected = ('ddpm+interval-hi1-w1', 28)
    assert torch.equal(eval(b.recipe())[0], other.images[28]) and not torch.equal(other.images[28], samples.images[28])
    b.mark('keep')
    assert load_marks(b.save_marks(tmp_path / 'marks.json'))[0]['drawn']['policy'] == dict(name='Interval', lo=.3, hi=1.)
    with pytest.raises(InputError, match='no samples of'): Gallery(made_up()[0], tmp_path)


def test_a_generator_is_found_by_the_names_of_its_samples(tmp_path):
    for g in 'ddpm', 'ddpm@1', 'cbdm', 'cbdm+aid', 'resampled', 'ddpm-length2': (tmp_path / 'generators' / g).mkdir(parents=True)
    for name, g in {'ddpm': 'ddpm', 'ddpm+interval-hi1@1': 'ddpm@1', 'ddpm-batch10+cads': 'resampled', 'resampled': 'resampled', 'cbdm-w0.5': 'cbdm',
                    'cbdm-aid0.1+cads': 'cbdm+aid', 'ddpm-length2-w0.5': 'ddpm-length2', 'cbdm@1': 'cbdm@1'}.items(): assert _generator_of(tmp_path, name) == g


# ---- a study's folder

@pytest.mark.slow
def test_a_study_brings_the_features_of_its_cross_entropy_classifier_and_the_oracle_as_judge(stage_study):
    split, nets = notebook_run().split, {}
    g = Gallery(split, stage_study)
    for row in 'ce', 'oracle':
        tensors, was = load_tensors(stage_study / f'classifiers/{row}-0.safetensors')
        nets[row] = build(split, ClassifierSettings(**was['about']['settings'])).eval()
        nets[row].load_state_dict(tensors)
    x = split.test.images
    assert torch.equal(g.phi(x), features(nets['ce'], x)) and torch.equal(g.judge(x), logits(nets['oracle'], x))
    assert not torch.equal(g.phi(x), features(nets['oracle'], x))
    e = FilterExplorer(g)
    s = g.samples[e.generator]
    filter = DropOOD().fit(features(nets['ce'], split.train.images), split.train.labels)
    assert torch.equal(e.keep, filter.keep(features(nets['ce'], s.images), s.labels))
    assert TailBrowser(g).generator in g.samples and [*g.samples][0] == 'ddpm'


# ---- FilterExplorer

def test_the_filter_that_is_taken_out_keeps_what_is_shown(gallery):
    e = FilterExplorer(gallery, DropOOD('pooled') & NeighbourAgreement(3), 1)
    v, s = e.open(), gallery.samples['b']
    for value in .5, 1., 1.3:
        v.sliders[0].value = value
        assert e.thresholds[0] == value and torch.equal(e.filter.keep(flat(s.images), s.labels), e.keep)
        shown = [grid.page['shape'][0] for grid in v.grids]
        assert shown == [min(24, int(e.keep[6:].sum())), min(24, int((~e.keep[6:]).sum()))]
    e.thresholds = 9., .4
    assert [s.value for s in v.sliders][1] == .4 and repr(e.filter).count('threshold') == 2
    e.part, e.cls, e.generator = 1, 2, 'a'
    e.close()
    mine = DropOOD()
    FilterExplorer(gallery, mine)
    assert vars(mine) == dict(scope='per_class')        # the filter that was given is left alone


def test_any_filter_will_do(gallery):
    class Dark(Filter):
        threshold = .5
        def score(self, features, labels): return features.mean(1)

    class Even(Filter):     # with a rule of its own
        def score(self, features, labels): return torch.arange(len(labels)).float()
        def keep(self, features, labels): return self.score(features, labels) % 2 == 0

    e = FilterExplorer(gallery, Dark() & (DropOOD() & Filter()))
    assert len(e.parts) == 3 and e.keep.any() and not e.keep.all()
    e.open()
    e.close()
    assert FilterExplorer(gallery, Even()).keep.tolist() == [True, False] * 28


class Head(torch.nn.Module):
    "The features are the pixels, and the classes are told from three of them."
    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(4.))
    def head(self, f): return self.scale * f[:, :3]


@pytest.mark.parametrize('name', FILTERS)
def test_what_is_shown_as_kept_is_what_the_filter_keeps(name):
    split, s = made_up()        # real images lie near each other, samples both among them and far away
    near = lambda images: 96 + images // 4
    split = replace(split, train=ImageSet(near(split.train.images), split.train.labels))
    s.images[::2] = near(s.images[::2])
    seen = lambda x: flat(x)[:, :3]
    gallery = Gallery(split, dict(b=s), seen, judge)
    expected = FILTERS[name](Head()).fit(seen(split.train.images), split.train.labels).keep(seen(s.images), s.labels)
    assert expected.any() and (name == 'none' or not expected.all())
    e = FilterExplorer(gallery, FILTERS[name](Head()), 1)
    assert torch.equal(e.keep, expected) and torch.equal(e.filter.keep(seen(s.images), s.labels), expected)
    v = e.open()
    for c, (e.part, _) in itertools.product((0, 1), enumerate(e.parts)):
        e.cls = c
        of_class = s.labels == c
        for kept, grid in zip((True, False), v.grids):
            mine = s.images[of_class & (expected == kept)]
            pixels, page = {image.numpy().tobytes() for image in mine}, grid.page
            size = len(page['pixels']) // max(1, page['shape'][0])
            shown = {page['pixels'][i*size:(i + 1)*size] for i in range(page['shape'][0])}
            assert shown <= pixels and len(shown) == min(24, len(mine))
            assert e.description(kept).endswith(f'{len(mine)} of {int(of_class.sum())}') or ';' in e.description(kept)
    assert e.figure()
    e.close()


def test_a_band_has_two_sliders_and_a_kind_none(gallery):
    e = FilterExplorer(gallery, Band(.8, 1.) & OnlyKind('ID') & DropOOD(), 1)
    v, s = e.open(), gallery.samples['b']
    assert (len(v.sliders), e.thresholds) == (3, (.8, 1., 2.))
    v.sliders[0].value = .9
    assert e.thresholds == (.9, 1., 2.) and e.filter.a.a.low == .9
    assert torch.equal(e.filter.keep(flat(s.images), s.labels), e.keep)
    e.thresholds = (.9, 40., 2.)
    assert v.sliders[1].value == 40.
    e.close()
    assert FilterExplorer(gallery, OnlyKind('AID')).open().sliders == []


# ---- GuidanceExplorer, DenoisingPath

def test_drawing_in_the_background_is_drawing(pipe):
    split = load_split('digits')
    e = GuidanceExplorer(split, dict(one=pipe), cls=3, n=4)
    e.steps, e.guidance = 4, 1.5
    v = e.open()
    e.wait()
    labels = torch.full((4,), 3)
    assert torch.equal(e.images, sample(pipe, labels, guidance=1.5, steps=4))
    assert torch.equal(e.drawn[e.beside_key], sample(pipe, labels, steps=4))
    assert [h.value.partition(' · ')[0] for h in v.heads] == ['no guidance, 4 steps', 'guidance 1.5, 4 steps'] and 'drawn' not in v.heads[1].value
    assert [g.page['pixels'] for g in v.grids] == [e.drawn[key].numpy().tobytes() for key in e.keys]
    v.grids[0].selected = 2
    assert (e.place, v.grids[1].selected, e.busy) == (2, 2, False)
    v.controls['steps'].value = 5
    e.wait()
    v.controls['steps'].value = 4
    assert e.images is not None and not e.busy
    e.close()


def test_drawing_can_be_cancelled_and_another_takes_its_place(pipe):
    e = GuidanceExplorer(load_split('digits'), dict(one=pipe), n=16)
    v = e.open()
    e.beside = 'nothing'
    for steps in 50, 49, 48, 3: e.steps = steps
    e.wait()
    assert e.images is not None and len(e.drawn) <= 2 and v.sides[1].layout.display == 'none'
    e.steps = 50
    e.place = 3             # what is looked at meanwhile does not begin the drawing again
    job = e._job
    e.place = 4
    assert e._job is job
    e.cancel()
    e.wait()
    assert e.images is None and 'not drawn' in v.heads[0].value
    e.close()


@pytest.mark.parametrize('text', [*POLICIES, 'interval:hi=3', 'auto:early=4', 'cads:s=.1'])
def test_a_policy_is_drawn_as_sample_draws_it_beside_the_same_but_for_it(pipe, text):
    split, policy = load_split('digits'), policy_of(text)
    phi = lambda x: 4*x.flatten(1)[:, :10]
    e = GuidanceExplorer(split, dict(one=pipe), cls=3, n=3, phi=phi)
    e.steps, e.guidance, e.beside, e.policy = 3, 0. if text == 'between' else -.5, 'constant guidance', text
    labels, same = torch.full((3,), 3), with_sampler(pipe, policy.sampler)
    how = dict(guidance=e.guidance, steps=3*policy.steps)
    e.figure()
    assert torch.equal(e.images, sample(same, labels, policy=policy, asked=dict(phi=phi, train=split.train) if policy.asks else None, **how))
    assert torch.equal(e.drawn[e.beside_key], sample(same, labels, **how))
    assert torch.equal(e.images, e.drawn[e.beside_key]) == (text == 'constant') == (len(e.keys) == 1)
    assert all(s > 0 for s in e.seconds.values()) and ('scale and steps of its own' in e.way(e.key)) == (text == 'between')


def test_only_the_policies_that_a_generator_can_do_are_offered(pipe):
    split = load_split('digits')
    plain = type(pipe)(pipe.unet, pipe.scheduler, pipe.config.patch)
    e = GuidanceExplorer(split, dict(plain=plain, whole=pipe), n=2)
    assert e.policies == [name for name in POLICIES if name not in ('feedback', 'between')]
    e.policy = 'auto'
    e.generator = 'plain'
    assert e.policy == 'constant' and 'auto' not in e.policies
    with pytest.raises(InputError, match='without its early averages: train it again'): e.policy = 'auto:early=8'
    assert GuidanceExplorer(split, dict(one=pipe), phi=judge).policies == [*POLICIES]


def test_a_policy_is_chosen_written_and_its_interval_dragged(pipe):
    e = GuidanceExplorer(load_split('digits'), dict(one=pipe), n=2, phi=judge)
    e.steps, v = 2, e.open()
    assert v.handles.layout.display == 'none'
    v.controls['policy'].value = 'interval'
    assert (e.policy, v.text.value, v.handles.value, v.handles.layout.display) == ('interval', 'interval', (.3, 2.), '')
    v.handles.value = .5, 10.
    assert e.policy == v.text.value == v.controls['policy'].value == 'interval:lo=0.5:hi=10'
    v.text.value = 'interval:lo=.123'
    assert v.handles.value == (.123, 2.) and e.policy == 'interval:lo=.123'
    v.handles.value = 2., 2.
    assert 'goes up' in v.message.value and v.handles.value == (.123, 2.)
    v.text.value = 'interval:middle=1'
    assert e.policy == 'interval:lo=.123' and 'has no setting &#x27;middle&#x27;' in v.message.value
    e.policy, e.guidance = 'between', 1.
    e.wait()
    assert 'leave w = 1 out' in v.message.value and 'not drawn' in v.heads[1].value
    e.close()


def test_the_seconds_of_a_drawing_are_its_own(pipe):
    e = GuidanceExplorer(load_split('digits'), dict(one=pipe), n=2)
    e.steps, slow = 4, e.refresh
    def refresh():
        if threading.current_thread() is not threading.main_thread(): time.sleep(.5)      # a browser that is slow
        slow()
    e.refresh = refresh
    e.open()
    e.wait()
    assert 0 < e.seconds[e.key] < 1.5       # of the four steps, not of the two seconds of watching them
    seconds = dict(e.seconds)
    e.draw()
    assert e.seconds == seconds     # kept, not drawn again
    e.close()


def test_an_error_while_drawing_is_shown(pipe):
    e = GuidanceExplorer(load_split('digits'), dict(one=pipe))
    e.pipes['one'] = lambda *a, **k: 1 / 0
    v = e.open()
    e.wait()
    assert 'ZeroDivisionError' in v.message.value
    e.close()


def test_paths_are_drawn_once_and_scrubbed(pipe):
    p = DenoisingPath(load_split('digits'), dict(a=pipe, b=pipe), steps=6)
    v = p.open()
    path = p.path
    v.controls['step'].value = 2
    assert p.step == 2 and p.path is path and v.large.page['pixels'] == path[:, 1].contiguous().numpy().tobytes()
    v.film.selected = 6 + 4
    assert p.step == 5 and f't = {p.t[4]}' in v.info.value
    with pytest.raises(InputError, match='between 1 and 6'): p.step = 7
    p.close()


# ---- TailMap

def places(m): return dict(zip((m.points.pairs[k] for k in m.shown), m.points.xy[m.shown]))


def test_a_map_shows_the_images_of_its_classes_and_a_lasso_selects_some(gallery):
    m = TailMap(gallery, 1)
    v = m.open()
    assert len(m.shown) == 5 + 10 + 50 + 50 and v.map.page['source'] == bytes([0]*5 + [1]*10 + [2]*50 + [3]*50)
    assert v.map.page['xy'] == m.points.xy.numpy().tobytes() and v.images.layout.display == 'none'
    at = places(m)
    x = sorted({p[0].item() for p in at.values()})[30:32]      # a and b are the same samples
    middle, (_, right, low, high) = sum(x) / 2, m.limits
    send(v.map, lasso=[[middle, low], [right, low], [right, high], [middle, high]])
    beyond = {pair for pair, p in at.items() if p[0] > middle}
    assert set(m.selected) == beyond and 48 < len(m.selected) == len(beyond) < 115
    assert sum(v.map.chosen) == len(beyond) and f'{len(beyond)} selected' in v.heading.value and v.images.page['shape'][0] == 24
    click(v, '▶')
    assert m.entries == list(m.selected[24:48]) and m.page == 2
    pixels = b''.join(m.images[s].images[i].numpy().tobytes() for s, i in m.entries)
    assert v.images.page['pixels'] == pixels
    v.images.selected = 3
    assert m.point == m.entries[3] and m.points.pairs[m.shown[v.map.selected]] == m.point and v.one.layout.display == ''
    click(v, 'Zoom in (+)')
    assert m.window[0] > middle - 1 and v.map.page['limits'] == list(m.window) and m.window != (middle, right, low, high)
    send(v.map, zoom=-1)
    assert m.window is None
    send(v.map, clear=True)
    assert (m.selected, m.point, v.map.selected, sum(v.map.chosen)) == ((), None, -1, 0)
    assert m.figure()
    m.close()


def test_a_point_is_walked_to_and_opened_with_those_nearest_to_it(gallery):
    m = TailMap(gallery, 1)
    v = m.open()
    v.map.selected = 7
    assert m.point == ('held out', 7)       # class 1 has every third from 1
    assert v.info.value == f'<span role="status">{m.description()}</span>' and v.one.page['shape'][0] == 1
    v.map.selected = 20
    assert m.point == ('a', 6 + 5) and 'drawn as c1' in v.info.value and v.one.page['captions'][0] == 'the sample' and m.selected == ()
    m.k = 9
    send(v.map, open=20)
    at = places(m)
    nearest = sorted(at, key=lambda pair: ((at[pair] - at[m.point]).norm().item(), pair != m.point))
    assert m.selected[0] == m.point and len(m.selected) == 9
    far = [(at[p] - at[m.point]).norm().item() for p in m.selected]
    assert far == sorted(far) and far[-1] == pytest.approx((at[nearest[8]] - at[m.point]).norm().item())
    send(v.map, open=999), send(v.map, perhaps=1)
    assert m.selected[0] == ('a', 11) and v.message.value == ''
    v.boxes['a'].value = False
    assert m.sources == ('training', 'held out', 'b') and m.point is None and {s for s, _ in m.selected} <= set(m.sources)
    v.boxes['a'].value = True
    v.controls['classes'].value = 'all'
    assert m.selected == () and 'c1' not in v.heading.value and len(m.shown) == 15 + 30 + 56 + 56
    m.close()


def test_the_axes_of_a_map_are_those_of_the_real_images(gallery):
    split, (a, b) = gallery.split, gallery.samples.values()
    m, other = (TailMap(Gallery(split, dict(a=a, b=b), flat), 'all') for b in (b, replace(b, images=b.images // 9)))
    for pair in ('training', 3), ('held out', 5), ('a', 7), ('b', 7):
        assert torch.allclose(places(m)[pair], places(other)[pair], atol=1e-5) == (pair[0] != 'b')
    real = flat(torch.cat([split.train.images, split.test.images]))
    _, _, axes = torch.linalg.svd(real - real.mean(0), full_matrices=False)
    expected = ((flat(gallery.samples['a'].images[7:8]) - real.mean(0)) @ axes[:2].T)[0]
    assert torch.allclose(places(m)['a', 7].abs(), expected.abs(), atol=1e-3)


def test_a_class_with_too_few_real_images_is_not_on_the_map_alone():
    split, samples = made_up()
    some = replace(split, test=split.test[:5])     # of the last class one training image and one held out
    m = TailMap(Gallery(some, dict(a=samples)))
    assert m.classes == 'all' and 2 not in [v for _, v in m.class_choices] and not m.gallery.phi and m.space == 'pixels'
    with pytest.raises(InputError, match='is none of'): m.classes = 2
    split, samples = made_up((1,), (3,))
    with pytest.raises(InputError, match='needs three real images'): TailMap(Gallery(replace(split, test=split.test[:1]), samples))


def test_what_is_not_finite_is_not_on_the_map(gallery):
    def features(x):
        f = flat(x)
        f[::2] /= 0.
        return f
    m = TailMap(Gallery(gallery.split, gallery.samples, features), 1)
    m.lasso([(-1e3, -1e3), (1e3, -1e3), (1e3, 1e3), (-1e3, 1e3)])
    assert 0 < len(m.shown) < 115 and len(m.selected) == len(m.shown) and m.figure()
    with pytest.raises(InputError, match='not on the map'): m.point = ('a', 6)


@pytest.mark.filterwarnings('error::RuntimeWarning')
def test_images_that_are_all_alike_lie_on_one_point():
    same = ImageSet(torch.zeros(5, 1, 8, 8, dtype=torch.uint8), torch.zeros(5, dtype=torch.long))
    m = TailMap(Gallery(Split('same', same, same, ['x']), dict(a=same), lambda x: flat(x)[:, :1]))     # one feature alone
    assert m.points.xy.unique().tolist() == [0.] and m.points.text == 'PCA of the real images: 0% of their variance' and m.figure()
    x0, x1, y0, y1 = m.limits
    m.lasso([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])
    m.zoom()
    assert len(m.selected) == 15 and m.window


@pytest.mark.parametrize('method', [m for m in TailMap.method.metadata['options'](None) if m != 'PCA'])
def test_methods_that_look_for_neighbours_see_some_of_the_images(gallery, method, monkeypatch):
    monkeypatch.setattr('ltnb.widgets.map.MOST', 60)
    m = TailMap(gallery, 1)
    m.method = method
    assert len(m.shown) == 5 + 10 + 22 + 22 and 'the first 22 of each class and source' in m.points.text and method in m.points.text
    p = m.points
    m.method = 'PCA'
    m.method = method
    assert m.points is p and MOST == 1500
    m.classes = 0
    assert torch.isfinite(m.points.xy).all()


def test_a_map_of_fifty_thousand_points_works_out_each_thing_once():
    "Its seconds are measured in benchmarks/quick.py."
    split, samples = made_up((300, 60, 8), (30_000, 15_000, 4_000), (1, 8, 8))
    seen = []
    def features(x):
        seen.append(len(x))
        return flat(x)
    m = TailMap(Gallery(split, samples, features), 2)
    v = m.open()
    assert seen == [368, 10, 4_000]         # training images by the gallery; of the rest only the class that is shown
    m.classes = 'all'
    assert sorted(seen[3:]) == [10, 10, 15_000, 30_000]
    points, (x0, x1, y0, y1) = m.points, m.limits
    send(v.map, lasso=[[x0, y0], [x1, y0], [x1, y1], [x0, y1]])
    assert len(m.selected) == 49_398 and len(v.images.page['pixels']) == 24*64 and sum(v.map.chosen) == 49_398
    m.page = m.pages
    m.point = m.selected[-1]
    m.near()
    m.sources = 'training', 'samples'
    m.classes = 2
    m.classes = 'all'
    assert len(seen) == 7 and m.points is points
    m.close()


# ---- TrainingMonitor, and training that can be stopped

def small_training(tmp_path=None, steps=200, pause=.005):
    def run(watch):
        net = torch.nn.Linear(1, 1)
        torch.nn.init.zeros_(net.weight), torch.nn.init.zeros_(net.bias)
        opt = torch.optim.Adam(net.parameters(), .05)
        def step(i):
            time.sleep(pause)
            x = torch.rand(8, 1, generator=rng(0, i))
            loss = (net(x) - x).square().mean()
            opt.zero_grad(); loss.backward(); opt.step()
            return loss
        losses, _ = train(step, steps, dict(net=net, opt=opt), tmp_path and tmp_path / 'c.safetensors', watch=watch)
        return net.weight.item(), losses
    return run


def until(condition):
    end = time.time() + 60
    while not condition():
        assert time.time() < end
        time.sleep(.01)


def test_a_training_is_paused_stopped_and_gone_on_with(tmp_path):
    weight, losses = small_training()(None)
    m = TrainingMonitor(small_training(tmp_path))
    v = m.open()
    assert (m.status, v.start.description) == ('not started', 'Start')
    m.start()
    until(lambda: len(m.losses) > 5)
    m.pause()
    time.sleep(.1)
    n = len(m.losses)
    time.sleep(.3)
    assert len(m.losses) == n and 'paused' in v.info.value and not v.start.disabled
    m.start()
    until(lambda: len(m.losses) > n)
    m.stop()
    m.wait()
    assert m.status == 'stopped' and (tmp_path / 'c.safetensors').exists()
    n = len(m.losses)
    m.close()
    v = m.open()
    m.start()
    again = m.wait()
    assert m.status == 'finished' and n < 200 and again[0] == weight and torch.equal(again[1], losses)
    until(lambda: 'finished' in v.info.value)
    m.pause(), m.start()
    assert m.status == 'finished'
    m.close()


def test_a_pause_before_the_training_has_begun_holds_it_and_can_be_ended():
    begin, m = threading.Event(), None
    def run(watch):
        begin.wait(30)
        return train(lambda i: torch.tensor(1.), 3, {}, watch=watch)
    m = TrainingMonitor(run)
    v = m.open()
    click(v, 'Start'), click(v, 'Pause')
    begin.set()
    for _ in range(100):
        if m.total: break
        time.sleep(.05)
    assert m.status == 'paused' and not v.start.disabled and len(m.losses) <= 1
    click(v, 'Go on')
    m.wait(30)
    assert m.status == 'finished'
    m.close()


def test_a_training_stopped_while_paused_and_one_that_fails():
    m = TrainingMonitor(small_training())
    m.start()
    until(lambda: len(m.losses) > 2)
    m.pause()
    m.stop()
    m.wait()
    assert m.status == 'stopped'
    m = TrainingMonitor(lambda watch: 1 / 0)
    m.start()
    with pytest.raises(ZeroDivisionError): m.wait()
    assert m.description() == 'failed: division by zero'
    with pytest.raises(InputError, match='nothing to start'): TrainingMonitor().start()


def test_a_monitor_as_a_plain_watch_draws_samples_and_changes_nothing():
    split = load_split('digits')
    settings = replace(generator_settings(split, 'tiny'), steps=6, dropout=.1)
    m = TrainingMonitor(split=split, every=0., steps=2, n=2)
    watched, plain = train_generator(split, ddpm_loss, settings, watch=m), train_generator(split, ddpm_loss, settings)
    assert m.images.shape == (8, 1, 8, 8) and len(m.losses) == 6 and m.figure()
    m.pause()
    assert m.description().startswith('finished · step 6 of 6') and 'left' not in m.description()
    for a, b in zip(watched.unet.state_dict().values(), plain.unet.state_dict().values()): assert torch.equal(a, b)


def test_watching_is_not_training():
    _, seconds = train(lambda i: torch.zeros(()), 3, {}, watch=lambda i, losses: time.sleep(.2))
    assert seconds < .6


# ---- TailCompare

def test_comparing_classifiers():
    split = load_split('digits')
    right = dict(zip((x.numpy().tobytes() for x in split.test.images), split.test.labels.tolist()))
    perfect = lambda x: torch.nn.functional.one_hot(torch.tensor([right[i.numpy().tobytes()] for i in x]), 10).float()
    c = TailCompare(split, dict(perfect=perfect, zero=lambda x: torch.eye(10)[torch.zeros(len(x), dtype=torch.long)]))
    assert c.accuracy('perfect') == [100.] * 10 and c.accuracy('zero') == [100.] + [0.] * 9
    v = c.open()
    v.grids[1].selected = 3 * 10
    assert c.cell == ('zero', 9, 0) and v.images.page['captions'] == ['perfect: 9'] * 24
    c.second = 'perfect'
    assert c.cell is None and v.images.layout.display == 'none'
    c.figure()
    c.close()
    many = Split('many', *(ImageSet(images(200, (3, 8, 8)), torch.arange(200) % 100),)*2, list(range(100)))
    few = ImageSet(many.test.images[:9], many.test.labels[:9])
    c = TailCompare(many, dict(a=flat, b=lambda x: -flat(x)[:, :100]), few)
    assert c.accuracy('a')[99] is None and 12 <= len(c.columns) <= 16
    c.figure()


# ---- nothing is left behind

def test_two_explorers_share_a_gallery_and_a_cell_run_twice_leaves_no_widget(gallery):
    a, b = TailBrowser(gallery, 1), TailBrowser(gallery, 1)
    a.open(), b.open()
    a.page = 2
    assert b.page == 1 and b.view.samples.page['captions'][0] == '#6'
    n = open_widgets()
    for _ in range(3):
        a = TailBrowser(gallery, 1)
        a.open()
        gc.collect()
        assert open_widgets() == n
    v = a.view
    a.close()
    v.samples.selected = 3          # a late click on a closed widget
    a.page = 2
    assert a.view is None and a._repr_mimebundle_()['text/plain'].startswith('TailBrowser: class 1')
    a.close(), a.close(), b.close()


def test_outputs_that_are_kept_hold_a_picture_and_no_widget(gallery, monkeypatch):
    with_widget = TailBrowser(gallery)._repr_mimebundle_()
    monkeypatch.setenv('LTNB_WIDGETS', '0')
    for explorer in TailBrowser(gallery), MissedModes(gallery), TailWall(gallery), FilterExplorer(gallery):
        kept = explorer._repr_mimebundle_()
        assert set(kept) == {'text/plain', 'image/png'}
        with Image.open(io.BytesIO(base64.b64decode(kept['image/png']))) as image: assert image.width > 300 and len(image.getcolors(256)) > 3
    assert set(with_widget) == {'text/plain', 'image/png', 'application/vnd.jupyter.widget-view+json'}
    assert plt.get_fignums() == []


def test_the_picture_of_an_explorer_is_of_bounded_size():
    figure = plt.figure(figsize=(12, 9))
    figure.subplots().imshow(torch.rand(900, 1200, generator=rng(0)), interpolation='nearest')
    assert 10_000 < len(as_png(figure)) < 200_000


# ---- look-alikes, what is missed, the wall

def test_look_alikes_are_folded_into_the_first_and_marked_with_it(gallery):
    images = gallery.split.test.of_class(0).images
    twice = ImageSet.generated(torch.cat([images, images[:2], images[:1]]), torch.zeros(len(images) + 3, dtype=torch.long))
    g, n = Gallery(gallery.split, twice), len(images)
    b = TailBrowser(g, 0)
    alike = g.facts('first_alike', 'samples', 0)
    assert alike[[n, n + 1, n + 2]].tolist() == alike[[0, 1, 0]].tolist()
    b.folded = True
    assert b.order('samples').tolist() == alike.unique().tolist() and len(b.order('samples')) < len(twice)
    assert b.sample_page().captions[0] == f'#0 ×{(alike == 0).sum()}'
    b.selected = ('samples', 0)
    b.mark('drop')
    assert b.marks['samples'].nonzero()[:, 0].tolist() == (alike == 0).nonzero()[:, 0].tolist()
    assert g.different('samples', 0)[2] == n and g.different('samples', 0)[0] == g.different('samples', 0)[1]
    b.mark_page('keep')
    assert (b.marks['samples'] == 1).all()      # one page holds all groups


def test_sorting_by_likeness_begins_with_the_sample_itself(gallery):
    b = TailBrowser(gallery, 1)
    with pytest.raises(InputError, match='sort by: .likeness. is none of'): b.sort = 'likeness'
    with pytest.raises(InputError, match='select a sample first'): b.sort_by_likeness()
    b.generator, b.selected = 'a', ('a', 8)
    b.sort_by_likeness()
    x = gallery.facts('features', 'a', 1)
    d = (x - x[2]).norm(dim=1)                  # number 8 is the third of its class
    assert b.entries[0] == ('a', 8) and d[torch.tensor([i for _, i in b.entries]) - 6].diff().min() >= 0
    b.like = None
    assert b.sort == 'number'


@pytest.fixture(scope='module')
def collapsed():
    "Digits in the place of samples: of `ddpm` all held-out images, of `cbdm` the third of each class that is nearest to its first, thrice."
    g = stand_in_gallery(load_split('digits'))
    nearest = []
    for c in range(10):
        numbers = g.numbers('ddpm', c)
        near = torch.cdist(flat(g.images('ddpm', c))[:1], flat(g.images('ddpm', c)))[0].argsort()[:len(numbers) // 3]
        nearest.append(numbers[near].repeat(3))
    s = g.samples['ddpm']
    few = ImageSet.generated(s.images[torch.cat(nearest)], s.labels[torch.cat(nearest)])
    return Gallery(g.split, dict(ddpm=s, cbdm=few), g.phi, g.judge)


def test_what_is_missed_is_what_recall_does_not_count(collapsed):
    g = collapsed
    figures = class_figures(g.split, g.samples['cbdm'].images, g.samples['cbdm'].labels)['per_class']
    m = MissedModes(g, 4)
    m.generator = 'cbdm'
    real, fake = flat(m.real()), flat(g.images('cbdm', 4))
    assert len(m.pairs) / m.compared == pytest.approx(1 - figures[4]['recall']) and len(m.pairs) > 5
    for i, j, d in m.pairs:
        assert d == pytest.approx((real[i] - flat(g.samples['cbdm'].images)[j]).norm().item(), abs=1e-4)
        assert d == pytest.approx(torch.cdist(real[i][None], fake).min().item(), abs=1e-4)
    assert [d for *_, d in m.pairs] == sorted((d for *_, d in m.pairs), reverse=True)
    every = m.pairs
    m.only = 'ddpm'             # whose samples are the held-out images
    assert m.pairs == every
    m.only = 'none'
    assert m.pairs == [] and m.pair_page().captions == [] and m.figure()
    m.only, m.selected = 'all', every[0][0]
    assert m.near_page().rows == ['ddpm: draws it', 'cbdm: misses it', 'training images']
    m.cls = 5
    assert m.selected is None
    with pytest.raises(InputError, match='selected cannot be -1'): m.selected = -1


def test_places_of_missed_images_and_of_their_samples_are_the_same_pair(collapsed):
    m = MissedModes(collapsed, 4)
    m.generator, m.COLUMNS = 'cbdm', 3
    v, pairs = m.open(), m.pairs
    for place, at in (0, 0), (3, 0), (2, 2), (6, 3), (9, 3):
        send(v.pairs, open=place)
        assert m.selected == pairs[at][0] and v.pairs.selected in (place, place - 3)
    send(v.pairs, open=999)
    assert m.selected is None
    m.close()


def test_generators_of_unequal_numbers_of_samples_are_compared_by_equally_many(collapsed):
    c, ddpm, cbdm = 4, *(collapsed.samples[name].of_class(4) for name in ('ddpm', 'cbdm'))
    short = ddpm[torch.arange(len(ddpm) // 2)]
    m = MissedModes(Gallery(collapsed.split, dict(ddpm=short, cbdm=cbdm)), c)
    m.generator, real, fake = 'cbdm', flat(m.real()), flat(cbdm.images)
    n = len(short)
    recall = prdc(real[:n], fake[:n])['recall']
    assert m.compared == n < len(cbdm) and len(m.pairs) == round(n * (1 - recall)) and all(i < n for i, *_ in m.pairs)
    assert f'first {n} samples of each generator' in m.description() and f'cbdm misses {len(m.pairs)} (recall {recall:.2f})' in m.description()


def test_a_class_too_small_for_recall_says_so(gallery):
    few = ImageSet.generated(gallery.split.test.images[:4], torch.zeros(4, dtype=torch.long))
    m = MissedModes(Gallery(gallery.split, few), 0)
    assert m.pairs == [] and 'at least 6 images are needed, not 4' in m.description() and m.open() and m.figure()
    m.close()


def test_a_wall_opens_the_browser_at_the_sample_that_is_selected(gallery):
    w = TailWall(gallery)
    v = w.open()
    assert w.classes == tail_classes(gallery.split, gallery.split.num_classes) and len(v.below.children) == 0
    send(v.grids['b'], open=w.N)                # the first sample of the second class
    name, i = w.selected
    assert (name, i) == ('b', int(gallery.numbers('b', w.classes[1])[0])) and v.grids['b'].selected == w.N and v.grids['a'].selected == -1
    assert w.browser.selected == w.selected and w.browser.cls == w.classes[1] and v.below.children == (w.browser.open().root,)
    w.first = 1
    assert w.selected is None and len(v.below.children) == 0 and w.entries('a')[0] == int(gallery.numbers('a', w.classes[0])[1])
    for bad in ('a', 10**6), ('c', 0), 3:
        with pytest.raises(InputError, match='selected cannot be'): w.selected = bad
    with pytest.raises(InputError, match='shows one to four of a, b'): TailWall(gallery, [])
    w.browser.close()
    w.close()


def test_a_view_is_saved_and_shown_again_or_refused_whole(gallery, tmp_path):
    b, file = TailBrowser(gallery, 1), tmp_path / 'view.json'
    b.generator, b.sort, b.backwards, b.selected = 'a', 'confidence', True, ('a', 8)
    b.save_view(file)
    again = TailBrowser(gallery)
    again.load_view(file)
    assert (repr(again), again.selected) == (repr(b), b.selected)
    before = repr(again)
    other = Gallery(gallery.split, dict(c=gallery.samples['a']), flat)
    for refused, why in (TailBrowser(other), "generator: 'a' is none of c"), (TailWall(gallery), 'is no view of a TailWall'):
        with pytest.raises(InputError, match=why): refused.load_view(file)
    for text in '', '[]', '{}', '{"explorer": "TailBrowser", "states": 3}', '{"explorer": "TailBrowser", "states": {"cls": 0}}', file.read_text().replace('true', '[1]'), file.read_text().replace('"a"', '{"a": 1}'):
        file.write_text(text)
        with pytest.raises(InputError, match='view.json'): again.load_view(file)
        assert repr(again) == before
    with pytest.raises(InputError, match='there is no file'): again.load_view(tmp_path / 'none.json')


def test_a_view_of_what_depends_on_what_is_selected_is_shown_again(gallery, tmp_path, monkeypatch):
    b, file = TailBrowser(gallery, 1), tmp_path / 'view.json'
    b.like, b.sort = ('a', 8), 'likeness'
    b.save_view(file)
    again = TailBrowser(gallery)
    again.load_view(file)
    assert (again.like, again.sort, repr(again)) == (b.like, b.sort, repr(b))
    saved = json.loads(file.read_text())
    saved['states'] |= dict(like=None, sort='number', page=999)
    file.write_text(json.dumps(saved))
    with pytest.raises(InputError, match='view.json cannot be shown here: page'): again.load_view(file)
    assert (again.like, again.sort) == (b.like, b.sort)
    monkeypatch.setattr(TailMap, 'COLUMNS', 1)
    m = TailMap(gallery, 'all')
    m.selected, m.page = tuple(('a', i) for i in range(9)), 2
    m.save_view(file)
    other = TailMap(gallery)
    other.load_view(file)
    assert (other.selected, other.page) == (m.selected, 2) and m.pages == 3


def test_a_file_that_cannot_be_written_is_said_below_the_widget(gallery, tmp_path):
    b = TailBrowser(gallery, 1)
    view = b.open()
    view.do(weakref.WeakMethod(b.save_view), str(tmp_path))     # a folder
    assert 'irectory' in view.message.value and str(tmp_path) in view.message.value


def test_a_class_that_a_generator_did_not_draw_can_be_sorted_by_likeness(gallery):
    samples = gallery.samples['a']
    g = Gallery(gallery.split, dict(a=samples, b=samples[samples.labels != 1]), flat, judge)
    assert g.facts('features', 'b', 1).shape == (0, g.real.shape[1])
    b = TailBrowser(g, 0)
    b.generator, b.like, b.sort = BOTH, ('a', int(g.numbers('a', 0)[0])), 'likeness'
    b.cls = 1
    assert b.cls == 1 and 'likeness' in b.sort


def explorers(gallery, pipe): # one of each kind
    digits = load_split('digits')
    return (TailBrowser(gallery), MissedModes(gallery), TailWall(gallery), TailMap(gallery), FilterExplorer(gallery), TailCompare(gallery.split, dict(a=judge, b=judge)),
            GuidanceExplorer(digits, dict(a=pipe)), DenoisingPath(digits, dict(a=pipe), steps=4), TrainingMonitor())


def test_help_names_keys_that_the_grid_knows_and_buttons_that_are_there(gallery, pipe):
    known = {*re.findall(r'event.key === "([^"]+)"', JS), *re.findall(r'(\w+):', re.search(r'const MARKS = .*', JS)[0]), *re.findall(r'Arrow\w+', JS)}
    known |= {k.upper() for k in 'kdu'} | {'Space', '+', '-', '0', 'Escape'}
    for explorer in explorers(gallery, pipe):
        named = [n for keys in explorer.HELP for n in named_in(keys)]
        view = explorer.open()
        buttons = {w.description for w in all_widgets(view.root) if isinstance(w, ipywidgets.Button)} | {'Go on'}
        assert {n for n in named if n[0] not in '[('} <= known and {n[1:-1] for n in named if n[0] == '['} <= buttons, explorer
        assert view.root.children[-1].layout.display == 'none'
        view.help.value = True
        assert view.root.children[-1].layout.display == '' and all(does in html.unescape(view.root.children[-1].children[0].value) for does in explorer.HELP.values())
        explorer.close()


def test_charts_take_the_colour_of_the_page():
    svg = as_svg(lambda ax: ax.plot([1, 2]), 'a "line" & more')
    assert 'currentColor' in svg and '#010203' not in svg and 'aria-label="a &quot;line&quot; &amp; more"' in svg


# ---- many samples

def test_of_many_samples_only_those_of_the_class_that_is_shown_are_looked_at():
    "Fifty thousand samples, their seconds and memory are measured in benchmarks/quick.py."
    split, samples = made_up(samples=(60, 500, 40), shape=(1, 8, 8))
    seen = []
    def features(x):
        seen.append(len(x))
        return flat(x)
    b = TailBrowser(Gallery(split, samples, features), 1)
    v = b.open()
    assert len(v.samples.page['pixels']) == 48 * 64 and seen == [len(split.train), 500, 10]    # 10: held out
    for b.page in 2, 5, 11: pass
    b.sort = 'distance'
    b.selected = b.entries[5]
    assert seen == [len(split.train), 500, 10]  # once
    b.cls = 0
    e = FilterExplorer(b.gallery, cls=2)
    e.open().sliders[0].value = 1.1
    assert seen == [len(split.train), 500, 10, 60, 10, 40]
    b.close(), e.close()


def test_the_texts_of_a_still_are_of_8_points_and_apart():
    page = Page(torch.zeros(16, 1, 16, 16, dtype=torch.uint8), [f'0.{i:02} ≠ trousers' for i in range(16)], 8, rows=['T-shirt (300 images)', 'boot'],
                heads=['trousers', 'pullover'] * 4, marks=['keep', ''] * 8)
    fig, ax = plt.subplots(figsize=(6, 2.6), layout='constrained')
    texts = draw_page(page, ax).texts
    assert len(texts) == 16 + 8 + 2 + 8 and min(t.get_fontsize() for t in texts) >= 8
    fig.canvas.draw()
    captions = [t.get_window_extent() for t in texts if '≠' in t.get_text()]
    assert not any(a.overlaps(b) for a, b in itertools.combinations(captions, 2))
    plt.close(fig)
