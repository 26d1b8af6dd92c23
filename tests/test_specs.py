"Generators, training sets, learners and settings: named and compared by their fields, every size with its figures."
import re
from dataclasses import asdict, fields, replace

import pytest
import torch

from ltnb.classifiers import classifier_settings
from ltnb.core import InputError, recorded
from ltnb.data import ImageSet, Split
from ltnb.diffusion import generator_settings
from ltnb.experiments import EXPERIMENTS
from ltnb.between import FILTERS
from ltnb.published import PAPERS
from ltnb.rebalancing import METHODS
from ltnb.sources import load_split
from ltnb.specs import (CLASSIFIERS, FILTERS_SHOWN, GENERATORS, LOSSES, PRESETS, STORY, TAUS, Draw, Learner, Recipe,
                        TrainingSet, cap_of, capped, run_settings)


@pytest.fixture
def photographs():
    images = ImageSet(torch.zeros(200, 3, 32, 32, dtype=torch.uint8), torch.arange(200) % 10)
    return Split('photographs', images, images, list(range(10)))


def test_tiny_takes_a_part_of_many_images_and_the_others_take_all():
    def made(C, n, size): # n images of the first half of the classes, 5 of the others
        y = torch.arange(C).repeat_interleave(torch.tensor([n if c < C / 2 else 5 for c in range(C)]))
        return ImageSet(torch.arange(len(y)).view(-1, 1, 1, 1).expand(-1, 1, size, size).to(torch.uint8), y)
    for C, size, train, test in (10, 16, 300, 300), (43, 32, 186, 93), (100, 32, 80, 40), (1000, 32, 10, 10), (10, 64, 200, 100):
        split = Split('made', made(C, 400, size), made(C, 301, size), [str(c) for c in range(C)], full=made(C, 400, size))
        cap, small = cap_of(split, 'tiny'), capped(split, 'tiny')
        assert (cap.train, cap.test, cap.seeds) == (train, test, 1)
        assert set(small.counts) == {train, 5} and set(small.test.counts(C)) == {test, 5} and small.full.counts(C) == small.counts
        mine = split.train.of_class(1).images[:train]       # the first of each class
        assert torch.equal(small.train.of_class(1).images, mine) and capped(small, 'tiny') is small
        assert capped(split, 'small') is split and cap_of(split, 'paper') is None
        assert run_settings(split, 'tiny') == run_settings(small, 'tiny')


def test_guidance_is_the_papers_and_sizes_are_those_of_the_parts(photographs):
    assert run_settings(photographs, 'paper').sampling.guidance == dict(ddpm=.8, cbdm=1.6, t2h=1.5, coral=.8, ccua=.8, cm=.8)
    for preset in PRESETS:
        settings, size = run_settings(photographs, preset), 'paper' if preset in PAPERS else preset
        assert settings.preset == preset and settings.classifier == classifier_settings(photographs, size)
        assert preset in PAPERS or settings.generator == generator_settings(photographs, size)
    assert run_settings(photographs).metrics.features == 'ce'
    assert run_settings(load_split('digits')).metrics.features == 'pixels'
    assert run_settings(photographs, features='inception').metrics.features == 'inception'
    for wrong in dict(preset='huge'), dict(features='vgg'):
        with pytest.raises(InputError, match='unknown'): run_settings(photographs, **wrong)


def test_the_preset_desk_takes_whole_fashion_mnist_as_it_takes_cifar(photographs):
    images = ImageSet(torch.zeros(200, 1, 28, 28, dtype=torch.uint8), torch.arange(200) % 10)
    clothes, cifar = (run_settings(s, 'desk') for s in (Split('clothes', images, images, list(range(10))), photographs))
    assert replace(clothes.classifier, augment='crop_flip') == cifar.classifier and cifar.classifier.network == 'ResNet32'
    assert clothes.metrics == cifar.metrics and clothes.sampling == cifar.sampling
    assert (clothes.generator.patch, clothes.generator.steps) == (cifar.generator.patch, cifar.generator.steps) == (2, 8000)


def test_saus_paper_size_is_that_of_its_code_and_everything_else_is_everybodys():
    split = load_split('digits')
    small = run_settings(split, 'small')
    assert small.of_learner(Learner('sau')) == (Learner('sau'), classifier_settings(split, 'small'))
    images = torch.zeros(len(split.train), 3, 32, 32, dtype=torch.uint8)
    run = run_settings(replace(split, train=replace(split.train, images=images)), 'paper')
    learner, settings = run.of_learner(Learner('sau'))
    assert (settings.network, settings.width, settings.batch_size) == ('ResNet32', 64, 128)
    assert (settings.optimizer, settings.lr, settings.weight_decay) == ('SGD', .01, 5e-3)
    assert (learner.hidden, learner.dim, learner.exact, learner.passes) == (2048, 128, False, 4)
    assert (settings.of(1140).steps, settings.warmup, settings.decay_all) == (200 * 1140 // 128, 0, True)
    assert run.classifier.width == 16 and run.sau.classifier.width == 64
    assert run.of_learner(Learner())[1] == run.classifier != run.of_learner(Learner(like_sau=True))[1] == settings


def test_a_longer_training_of_a_classifier_has_so_many_times_the_steps_or_epochs():
    s = run_settings(load_split('digits'), 'small')
    assert s.of_learner(Learner(length=3.7))[1] == replace(s.classifier, steps=round(3.7 * s.classifier.steps))
    epochs = replace(s, classifier=replace(s.classifier, epochs=20)).of_learner(Learner('crt', length=.5))[1]
    assert epochs.epochs == 10 and Learner('crt', length=.5).first == Learner(length=.5)
    assert 'length' not in recorded(Learner()) and recorded(Learner(length=2.))['length'] == 2.


@pytest.mark.parametrize('usual, others', [
    (Recipe(), dict(method='ddpm', tau=2., prior='uniform', imbalance_factor=5., length=2., fine_tuned=True, aid=.1,
                    aid_bound=10., head=.5, shift=.5, strength=.5, batch_imbalance=1., guidance=.5, policy='interval:hi=3')),
    (Draw(), dict(sampler='ddim', sampling_steps=10, guidance=.5, policy='cads')),
    (TrainingSet(Recipe()), dict(recipe=Recipe('ddpm'), filter='diffult', target=2., only_few=True, wrong=.2, added=True)),
    (TrainingSet(), dict(full=True)),
    (Learner(), dict(method='la', omega=.3, strategy='drop', temperature=.2, hidden=8, dim=8, unaware=False,
                     aware=False, prototypes=False, tau=.5, like_sau=True, exact=False, clean_norm=True, rho=.1, passes=4, length=2.))],
    ids=['Recipe', 'Draw', 'TrainingSet', 'TrainingSet without a generator', 'Learner'])
def test_what_differs_has_another_name_and_names_are_files(usual, others):
    changed = [replace(usual, **{k: v}) for k, v in others.items()]
    if usual != TrainingSet(): assert set(others) | {'full'} >= {f.name for f in fields(usual)}
    names = [x.name for x in (usual, *changed)]
    assert len(set(names)) == len(names) and all(re.fullmatch(r'[\w+. %-]+', n) for n in names), names


def test_names_are_unique_and_known_among_all_that_is_ever_made():
    recipes, sets, learners = set(GENERATORS.values()), set(), set()
    tables = [plan(Draw()) for plan in EXPERIMENTS.values()] + [{s: [way]} for s, way in CLASSIFIERS.values()]
    for what, ways in ((what, ways) for table in tables for what, ways in table.items()):
        if isinstance(what, Recipe): recipes.add(what)
        else:
            sets.add(what)
            learners.update(ways)
    recipes |= {s.recipe for s in sets if s.recipe}
    for some in recipes, sets, learners: assert len({x.name for x in some}) == len(some) > 3
    assert {r.method for r in recipes} <= set(LOSSES) and {s.filter for s in sets} <= {*FILTERS, 'oracle'}
    assert {way.method for way in learners} <= {*METHODS, 'sau'} and set(FILTERS_SHOWN.values()) <= set(FILTERS)


def test_what_a_learner_goes_on_from():
    assert {row: way.first for row, (_, way) in CLASSIFIERS.items() if way.first and not way.tau} == {
        'crt': Learner(), 'crt+cbdm+filter+weight': Learner(omega=.3)}
    assert Recipe(fine_tuned=True, imbalance_factor=5.).base == Recipe('ddpm', imbalance_factor=5.)
    assert set(asdict(run_settings(load_split('digits')))) >= {'preset', 'generator', 'classifier', 'sau', 'sampling',
                                                               'metrics'}


def test_every_row_but_the_oracle_can_be_had_with_its_logits_adjusted():
    plain = {row for row, (_, way) in CLASSIFIERS.items() if not way.tau}
    assert {f'{row}+adjusted' for row in plain - {'oracle'}} == set(CLASSIFIERS) - plain
    for row in plain - {'oracle'}:
        (what, way), (_, other) = CLASSIFIERS[row], CLASSIFIERS[f'{row}+adjusted']
        assert CLASSIFIERS[f'{row}+adjusted'] == (what, replace(way, tau=1.)) and other.first == way
    assert 0. in TAUS and 1. in TAUS and list(TAUS) == sorted(TAUS)     # as trained, and as published
    assert set(STORY) <= set(CLASSIFIERS) and {row + '+adjusted' for row in ('ce', 'ce+cbdm', 'sau')} <= set(STORY)
