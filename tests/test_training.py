"A training goes on where it was, says when it cannot, and a part is made once and never overwritten."
import math
import signal
import subprocess
import sys
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

import pytest
import torch
from conftest import ROOT

from ltnb.cbdm import CBDMLoss
from ltnb.classifiers import SmallNet
from ltnb.compute import Speed
from ltnb.core import InputError, TrainingError, TrainingStopped, atomic, fingerprint, load_json, save_json
from ltnb.diffusion import ddpm_loss, generator_settings
from ltnb.generators import load_generator, train_generator
from ltnb.rebalancing import ClassBalanced, Focal
from ltnb.sau import SAULoss
from ltnb.sources import load_split
from ltnb.training import Watch, artifact, describe, first_steps, in_parts, lr_at, train
from ltnb.trust import Relabelling


KILLED = '''
import os, sys
sys.path.insert(0, sys.argv[1])
from test_training import twenty_steps
twenty_steps(sys.argv[2], lambda i, losses: os.kill(os.getpid(), 9) if i == 12 else None)
'''


def twenty_steps(path, watch=None):
    split = load_split('digits')
    settings = replace(generator_settings(split, 'tiny'), dropout=.1, steps=20)
    return train_generator(split, ddpm_loss, settings, path=Path(path), save_every=0, watch=watch)


@pytest.mark.slow
def test_training_killed_in_the_middle_ends_at_the_same_weights(tmp_path):
    killed = subprocess.run([sys.executable, '-c', KILLED, ROOT / 'tests', tmp_path / 'twice'])
    assert killed.returncode == -signal.SIGKILL and (tmp_path / 'twice.checkpoint.safetensors').exists()
    assert not (tmp_path / 'twice').exists()
    for name in 'once', 'twice': twenty_steps(tmp_path / name)
    once, twice = load_generator(tmp_path / 'once'), load_generator(tmp_path / 'twice')
    for a, b in zip(once.unet.state_dict().values(), twice.unet.state_dict().values()): assert torch.equal(a, b)
    assert once.training['losses'] == twice.training['losses']


def test_a_loss_that_is_not_finite_stops_and_names_step_rate_and_checkpoint(tmp_path):
    split, calls = load_split('digits'), []

    def loss(net, batch, generator):
        calls.append(1)
        value, eps = ddpm_loss(net, batch, generator)
        return (value if len(calls) < 8 else value * float('nan')), eps

    with pytest.raises(TrainingError,
                       match=r'nan at step 7 \(learning rate 0\.00\d+\).*bad\.checkpoint\.safetensors \(step \d\)'):
        train_generator(split, loss, generator_settings(split, 'tiny'), path=tmp_path / 'bad', save_every=0)


def test_a_training_in_another_layout_goes_on_to_the_same_weights(tmp_path):
    split = load_split('digits')
    settings = replace(generator_settings(split, 'tiny'), dropout=.1, steps=12)
    def go(path, watch=None):
        return train_generator(split, ddpm_loss, settings, path=path, speed=Speed(channels_last=True), watch=watch)
    def stop(i, losses):
        if i == 6: raise TrainingStopped
    with pytest.raises(TrainingStopped): go(tmp_path / 'stopped', stop)
    hashes = [fingerprint(go(tmp_path / name).unet.state_dict()) for name in ('stopped', 'once')]
    assert hashes[0] == hashes[1]


def counting(steps=6, **kwargs): # the losses of a training of one number, and that number
    net = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(net.weight)
    def step(i):
        with torch.no_grad(): net.weight += i
        return net.weight.sum()
    return train(step, steps, dict(net=net), **kwargs)[0].tolist(), net.weight.item()


def test_a_training_that_was_stopped_goes_on_to_the_same_losses(tmp_path):
    seen = []

    class Stop(Watch):
        def attach(self, parts, steps, done): seen.append((set(parts), steps, done))
        def __call__(self, i, losses):
            if len(losses) == 4 and seen[-1][2] == 0: raise TrainingStopped

    how = dict(checkpoint=tmp_path / 'x.checkpoint.safetensors', about=dict(a=1), watch=Stop())
    with pytest.raises(TrainingStopped): counting(**how)
    assert counting(**how) == counting() == ([0, 1, 3, 6, 10, 15], 15)
    assert seen == [({'net'}, 6, 0), ({'net'}, 6, 4)]
    with pytest.raises(InputError, match='x.checkpoint.safetensors was made with another a: '): counting(**how | dict(about=dict(a=2)))
    with pytest.raises(TrainingStopped): counting(**how | dict(about=dict(a=2), inputs=['a']))      # from its beginning
    assert seen[-1] == ({'net'}, 6, 0)
    assert (tmp_path / 'x.checkpoint.safetensors.aside').exists()


def test_the_first_steps_are_timed_and_no_more_are_taken():
    taken = []
    def one(i):
        taken.append(i)
        return torch.tensor(float(i))
    seconds, losses = first_steps(lambda watch: train(one, 100, {}, watch=watch), 4)
    assert taken == [0, 1, 2, 3] and len(seconds) == 3 and losses.tolist() == taken and min(seconds) > 0
    taken.clear()
    assert len(first_steps(lambda watch: train(one, 100, {}, watch=watch), 9, enough=0.)[0]) == 1 and taken == [0, 1]


def test_the_learning_rate_warms_up_and_falls_on_a_cosine():
    rates = [lr_at(i, .1, 100, 10) for i in range(100)]
    assert rates[4] == pytest.approx(.05 * .5 * (1 + math.cos(math.pi * .04))) and rates[50] == pytest.approx(.05)
    assert max(rates) < .1 and rates[99] < 1e-4 and lr_at(99, .1, 100, 10, decay=False) == .1


# ---- parts


@dataclass(frozen=True)
class Thing:
    a: int = 1
    b: str = 'x'
    c: tuple = (1, 2)
    d: object = None
    note: str = field(default='', compare=False)


def test_a_description_leaves_out_what_is_not_compared_and_differs_when_any_other_field_does():
    plain = describe(Thing())
    assert plain == dict(name='Thing', a=1, b='x', c=[1, 2], d=None) == describe(Thing(note='other'))
    others = dict(a=2, b='y', c=(2, 1), d=Thing())
    assert set(others) == {f.name for f in fields(Thing) if f.compare}
    for name, value in others.items(): assert describe(replace(Thing(), **{name: value})) != plain, name


def test_losses_are_described_by_all_that_makes_them_what_they_are():
    split, counts = load_split('digits'), torch.tensor([3., 2., 1.])
    assert describe(SAULoss(split, record=Relabelling(10))) == describe(SAULoss(split))
    for name, value in dict(split=load_split('digits', 10), strategy='drop', temperature=.2, hidden=8, dim=8,
                            unaware=False, aware=False, prototypes=False).items():
        assert describe(SAULoss(**dict(split=split) | {name: value})) != describe(SAULoss(split)), name
    for name, value in dict(augment='none', omega=.3, counts=counts + 1, beta=.9).items():
        assert describe(ClassBalanced(**dict(counts=counts) | {name: value})) != describe(ClassBalanced(counts)), name
    for name, value in dict(tau=2., gamma=1., num_train_timesteps=9, prior=counts).items():
        assert describe(CBDMLoss(**dict(prior=split.prior) | {name: value})) != describe(CBDMLoss(split.prior)), name
    assert describe(Focal()) != describe(Focal(gamma=1.)) and describe(Focal())['name'] == 'Focal'


def test_functions_networks_and_tensors_are_described_by_name_and_hash():
    assert describe([ddpm_loss, dict(x=torch.ones(2))]) == ['ddpm_loss', dict(x=fingerprint(dict(x=torch.ones(2))))]
    net = SmallNet(1, 3)
    before = describe(net)
    with torch.no_grad(): net.head.bias += 1
    assert len(before) == 64 and describe(net) != before
    assert describe(load_split('digits')) == load_split('digits').sha256


def test_a_part_is_made_once_and_another_is_refused_and_never_overwritten(tmp_path):
    made, path = [], tmp_path / 'part.json'

    def part(about, path=path):
        def make():
            made.append(about)
            return len(made)
        return artifact(path, about, make, lambda path: load_json(path)['part'],
                        lambda path, part, about: save_json(path, dict(about, part=part)), load_json)

    assert part(dict(seed=1, of=(1, 2))) == part(dict(seed=1, of=[1, 2])) == 1 and len(made) == 1
    before = path.read_bytes(), path.stat().st_mtime_ns
    for other, says in ((dict(seed=2, of=(1, 2)), 'with another seed:'), (dict(seed=2, of=3), 'with another seed, of:'),
                        (dict(seed=1, of=(1, 2), new=None, more=4), 'with another more:')):
        with pytest.raises(InputError, match=f'part.json was made {says}') as e: part(other)
        assert '\n' not in str(e.value)
    assert len(made) == 1 and before == (path.read_bytes(), path.stat().st_mtime_ns)
    assert part(dict(seed=2), None) == 2 and part(dict(seed=2), None) == 3      # nowhere is it kept
    assert [p.name for p in tmp_path.iterdir()] == ['part.json']


def test_what_was_trained_otherwise_is_refused(tmp_path):
    split = load_split('digits')
    settings = replace(generator_settings(split, 'tiny'), steps=1)
    train_generator(split, settings=settings, path=tmp_path / 'g')
    with pytest.raises(InputError, match='g was made with another seed: use another folder, or delete it'):
        train_generator(split, settings=settings, seed=1, path=tmp_path / 'g')
    with pytest.raises(InputError, match='was made with another loss, settings'):
        train_generator(split, CBDMLoss(split.prior), replace(settings, steps=2), path=tmp_path / 'g')


def test_parts_of_a_drawing_are_drawn_again_where_what_they_are_drawn_with_has_changed(tmp_path, monkeypatch, caplog):
    "A filter that is fitted anew keeps other samples, so that other images are missing."
    monkeypatch.setattr('ltnb.training.PART', 4)
    path, draw = tmp_path / 'filled.safetensors', lambda y, first: y.to(torch.uint8).view(-1, 1, 1, 1)
    of = lambda labels, **about: in_parts(draw, labels, path, dict(dict(sampler='ddim', phi='a'), **about), ['phi'])[0].flatten().tolist()
    assert of(torch.arange(8)) == of(torch.arange(8)) == [*range(8)] and not caplog.messages
    assert of(torch.arange(1, 9), phi='b') == [*range(1, 9)]
    assert len(caplog.messages) == 2 and all('was made of another phi, of: moved to' in m for m in caplog.messages)
    with pytest.raises(InputError, match='was made with another sampler'): of(torch.arange(1, 9), phi='b', sampler='ddpm')


def test_a_part_that_another_process_kept_meanwhile_is_left_as_it_is(tmp_path):
    "As when two notebooks make the same generator; a folder could not be replaced."
    path = tmp_path / 'part'
    def make():     # while another process saves its own
        path.mkdir()
        (path / 'theirs').write_text('x')
        return 'mine'
    def save(path, part, about):
        with atomic(path) as tmp: tmp.mkdir()
    assert artifact(path, dict(a=1), make, str, save, lambda path: dict(a=1)) == 'mine'
    assert [p.name for p in path.iterdir()] == ['theirs']
    assert artifact(path, dict(a=1), make, lambda path: 'theirs', save, lambda path: dict(a=1)) == 'theirs'


def test_a_loss_that_is_nan_is_told_where_no_optimiser_is_among_the_parts():
    with pytest.raises(TrainingError, match=r'the loss is nan at step 3; last good checkpoint: none yet'):
        train(lambda i: torch.tensor(math.nan if i == 3 else 1.), 6, dict(net=torch.nn.Linear(1, 1)))
