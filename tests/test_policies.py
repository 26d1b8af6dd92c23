"Ways of sampling: each against its formula, what it costs in calls of the network, and that nothing else decides an image."
from dataclasses import replace

import pytest
import torch
from torch import nn

from ltnb.classifiers import build, classifier_settings
from ltnb.core import InputError
from ltnb.diffusion import (ClassConditionalPipeline, SamplingHook, SamplingStep, generator_settings, noise_schedule, sample, unet,
                            with_sampler)
from ltnb.policies import POLICIES, CADS, Autoguidance, Between, Feedback, Interval, Minority, Policy, Schedule, interval, omega_schedule, policy_of
from ltnb.runs import Run
from ltnb.sources import load_split
from ltnb.specs import recipe_of

SPLIT = load_split('digits')
LABELS = torch.arange(6)


def network(seed):
    torch.manual_seed(seed)
    net = unet(SPLIT, generator_settings(SPLIT, 'tiny')).eval()
    nn.init.normal_(net.conv_out.weight, std=.05)
    return net


@pytest.fixture(scope='module')
def pipe():
    return with_sampler(ClassConditionalPipeline(network(0), noise_schedule(), early16=network(1), early8=network(2), early4=network(3)))


@pytest.fixture(scope='module')
def phi():
    torch.manual_seed(0)
    return build(SPLIT, classifier_settings(SPLIT, 'tiny')).eval()


def calls(pipe, run, of='unet'):
    "Images that went through a network of the pipeline while `run` ran."
    seen, net = [], getattr(pipe, of)
    hook = net.register_forward_hook(lambda m, i, out: seen.append(len(i[0])))
    try: run()
    finally: hook.remove()
    return sum(seen)


def test_the_schedules_are_the_formulas():
    t = torch.tensor([0., 250., 500., 999.])
    for w in 0., 1.6:
        assert torch.allclose(omega_schedule(t, 1000, w, 'constant'), torch.full((4,), w))
        assert torch.allclose(1 + omega_schedule(t, 1000, w, 'linear'), (1 - t/1000)*(1 + w))
        assert torch.allclose(1 + omega_schedule(t, 1000, w, 'gamma', 100.), 100**(-t/1000)*(1 + w))
        assert torch.allclose(1 + omega_schedule(t, 1000, w, 'gamma', .25), (1 - .25**(1 - t/1000))*(1 + w))
    s = torch.tensor([.1, .3, .5, 2., 2.5])
    assert interval(s, .3, 2., 3.).tolist() == [1, 1, 3, 3, 1] == [interval(x, .3, 2., 3.) for x in (.1, .3, .5, 2., 2.5)]


@pytest.mark.parametrize('text, said', [
    ('interval:lo=2:hi=1', 'goes up'), ('interval:lo=1:hi=1', 'goes up'), ('linear:kind=cubic', 'no setting'), ('gamma:gamma=0', 'above 0'),
    ('cads:tau1=.9:tau2=.6', 'tau1 < tau2'), ('auto:early=3', '1/16, 1/8 and 1/4'), ('auto:early=x', 'of type int'),
    ('feedback:criterion=joy', "'entropy' or 'loss'"), ('minority:every=0', 'every must be 1'), ('minority:t_p=5000', 't_p from 0'),
    ('feedback:every=0', 'every must be 1'), ('between:stride=0', 'multiples of stride'), ('gamma:gamma=nan', 'finite'), ('linear:gamma=5', 'only the kind gamma'), ('euler', 'it is one of constant, interval')])
def test_settings_that_make_no_sense_are_refused_in_one_line(text, said):
    for ask in lambda: policy_of(text), lambda: recipe_of(f'ddpm+{text}'):
        with pytest.raises(InputError, match=said) as e: ask()
        assert '\n' not in str(e.value)


def test_w_is_part_of_a_name_and_what_follows_a_plus_sign_needs_a_generator_before_it():
    assert recipe_of('ddpm+interval:w=.5:hi=3') == replace(recipe_of('ddpm'), guidance=.5, policy='interval:hi=3')
    assert recipe_of('ddpm+w=-.25') == replace(recipe_of('ddpm'), guidance=-.25)
    assert recipe_of('cbdm+aid').aid and recipe_of('cbdm+aid+cads').policy == 'cads'
    for wrong in 'gan+cads', 'cads', 'ddpm+w=', 'ddpm+', 'ddpm+w=nan', 'ddpm+w=inf', 'ddpm+cads:w=much':
        with pytest.raises(InputError): recipe_of(wrong)


def test_a_run_refuses_a_policy_that_would_change_nothing_and_one_that_cannot_know_the_classes(tmp_path):
    run = Run(SPLIT, tmp_path, 'tiny')
    for name in 'ddpm+interval', 'ddpm+auto', 'ddpm+interval:w=0':
        with pytest.raises(InputError, match='changes nothing at w = 0'): run.draw(recipe_of(name))
    assert run.draw(recipe_of('ddpm+interval:w=1')).guidance == 1 and run.draw(recipe_of('ddpm+feedback')).guidance == 0
    with pytest.raises(InputError, match='does not know all classes'): run.draw(replace(recipe_of('ddpm+feedback'), head=0.))
    paper = Run(SPLIT, tmp_path, 'paper')       # where CBDM is drawn from with w = 1.6
    assert [paper.draw(recipe_of(name)).guidance for name in ('cbdm+interval', 'cbdm+between')] == [1.6, 0]
    with pytest.raises(InputError, match='a scale of its own: leave w = 1 out'): paper.draw(recipe_of('cbdm+between:w=1'))


def test_what_is_switched_off_changes_nothing_and_costs_nothing(pipe, phi):
    plain, guided = (sample(pipe, LABELS, guidance=w, steps=10) for w in (0., 1.))
    assert not torch.equal(plain, guided)
    for policy in Policy(), Interval(0., 1e4), CADS(s=0.), CADS(tau1=1., tau2=1.1), Feedback(scale=0.), Minority(scale=0.):
        assert torch.equal(sample(pipe, LABELS, guidance=1., steps=10, policy=policy, asked=dict(phi=phi)), guided), policy
    for policy in Interval(1e3, 1e4), Autoguidance():
        assert torch.equal(sample(pipe, LABELS, guidance=1. if policy == Interval(1e3, 1e4) else 0., steps=10, policy=policy), plain)
    cost = lambda **how: calls(pipe, lambda: sample(pipe, LABELS, steps=10, **how)) / len(LABELS)
    assert cost() == 10 and cost(guidance=1.) == 20
    assert cost(guidance=1., policy=Interval(1e3, 1e4)) == 10
    sigmas = (1 / pipe.scheduler.alphas_cumprod[[int(t) for t in pipe.scheduler.timesteps]] - 1).sqrt()
    inside = int(((.3 < sigmas) & (sigmas <= 2.)).sum())
    assert 0 < inside < 10 and cost(guidance=1., policy=Interval()) == 10 + inside
    assert cost(policy=CADS()) == 10 and cost(guidance=-1.) == 10     # without a label alone
    assert cost(policy=CADS(), guidance=-1.) == 10
    auto = lambda of: calls(pipe, lambda: sample(pipe, LABELS, guidance=1., steps=10, policy=Autoguidance(8)), of) / len(LABELS)
    assert [auto(of) for of in ('unet', 'early8', 'early16')] == [10, 10, 0]
    assert cost(policy=Minority(every=5)) == 10 + 2*2 and cost(policy=Feedback(every=5), asked=dict(phi=phi)) == 10 + 2


@pytest.mark.parametrize('policy', [policy_of(name) for name in POLICIES] + [Feedback(criterion='loss')], ids=repr)
def test_an_image_depends_on_seed_number_and_label_only(pipe, phi, policy):
    pipe = with_sampler(pipe, policy.sampler)
    how = dict(guidance=0. if type(policy) is Between else .5, steps=10, policy=policy, asked=dict(phi=phi, train=SPLIT.train))
    every, some = sample(pipe, LABELS, **how), sample(pipe, LABELS[2:4], first=2, **how)
    assert (every[2:4].int() - some.int()).abs().max() <= 1
    usual = sample(pipe, LABELS, guidance=.5, steps=10)
    assert torch.equal(every, usual) == (type(policy) is Policy)


def test_a_guide_takes_the_place_of_the_pass_without_labels(pipe):
    seen = []
    class Watches(SamplingHook):
        def move(self, x, eps, step):
            seen.append((x, eps, step))
            return x
    pipe(LABELS, 2.5, 4, torch.Generator().manual_seed(0), 'pt', guide=pipe.early8, hooks=[Watches()])
    for x, eps, step in seen:
        main, bad = (net(x, step.t, class_labels=LABELS).sample for net in (pipe.unet, pipe.early8))
        assert torch.allclose(eps, bad + 2.5*(main - bad), atol=1e-5)
    itself = sample(pipe, LABELS, steps=5)
    assert torch.equal(pipe(LABELS, 1., 5, None, 'pt', guide=pipe.early8).images.shape and itself, itself)
    read = network(4)
    read.register_to_config(sample_size=[8, 8])       # as a file has it
    pipe(LABELS, 2., 2, guide=read)
    with pytest.raises(InputError, match='a scale of its own'): Between().how(pipe, 1., phi=pipe.unet, train=SPLIT.train)
    other = unet(load_split('fashion'), generator_settings(load_split('fashion'), 'tiny'))
    with pytest.raises(InputError, match='its sample_size is'): pipe(LABELS, 2., 4, guide=other)
    with pytest.raises(InputError, match='train it again'):
        Autoguidance().how(with_sampler(ClassConditionalPipeline(pipe.unet, noise_schedule())), 1.)


def test_a_guider_of_diffusers_is_taken_as_it_is(pipe):
    from diffusers.guiders import AdaptiveProjectedGuidance, ClassifierFreeGuidance
    draw = lambda **how: pipe(LABELS, num_inference_steps=10, generator=torch.Generator().manual_seed(0), output_type='pt', **how).images
    assert (draw(guider=ClassifierFreeGuidance(2.)).int() - draw(guidance_scale=2.).int()).abs().max() <= 1
    assert torch.equal(draw(guider=ClassifierFreeGuidance(1.)), draw(guidance_scale=1.))
    assert not torch.equal(draw(guider=AdaptiveProjectedGuidance(4., eta=0.)), draw(guidance_scale=4.))
    part = calls(pipe, lambda: draw(guider=ClassifierFreeGuidance(2., start=.5, stop=.8)))
    assert part == (10 + 3)*len(LABELS)     # steps 5, 6 and 7


def test_guidance_may_be_a_function_of_the_noise_level(pipe):
    seen = []
    def scale(sigma):
        seen.append(sigma)
        return 2.
    images = pipe(LABELS, scale, 10, torch.Generator().manual_seed(0), 'pt').images
    assert torch.equal(images, pipe(LABELS, 2., 10, torch.Generator().manual_seed(0), 'pt').images)
    assert seen == sorted(seen, reverse=True) and seen[0] == pytest.approx(157.4, rel=.01)


def step_at(t, pipe, number=0, steps=10, labels=LABELS):
    abar = noise_schedule().alphas_cumprod
    g = [torch.Generator().manual_seed(i) for i in range(len(labels))]
    return SamplingStep(number, steps, torch.tensor(t), abar[t].item(), abar[t - 20].item(), labels,
                        lambda x, t, y: pipe.unet(x, t, class_labels=y).sample,
                        lambda shape=(1, 8, 8): torch.stack([torch.randn(shape, generator=one) for one in g]))


def test_cads_tells_noise_first_and_the_class_last_with_its_mean_and_spread(pipe):
    e = torch.randn(6, 128) * 2 + 1
    early, late = (CADS().embed(e, step_at(500, pipe, number)) for number in (0, 5))
    assert torch.equal(late, e)         # half of the steps to go, less than tau1
    assert torch.allclose(early.mean(1), e.mean(1), atol=1e-4) and torch.allclose(early.std(1), e.std(1), atol=1e-3)
    corr = torch.stack([torch.corrcoef(torch.stack([a, b]))[0, 1] for a, b in zip(early, e)])
    assert corr.abs().max() < .35       # nothing is left of the class
    middle = CADS(psi=0.).embed(e, step_at(500, pipe, 25, 100))     # 0.75 to go: half way
    noise = step_at(500, pipe).noise((128,))
    assert torch.allclose(middle, .5**.5 * e + .25 * .5**.5 * noise, atol=1e-5)


def test_minority_moves_the_mean_by_its_share_of_the_variance(pipe):
    x, step = torch.randn(6, 1, 8, 8), step_at(500, pipe)
    moved = Minority(scale=.4).move(x, None, step)
    alpha = step.abar / step.abar_next
    assert torch.allclose((moved - x).abs().amax((1, 2, 3)) / alpha**.5, torch.full((6,), .4*(1 - alpha)), rtol=1e-3)
    # uphill: the distance between both predictions grows
    def distance(x):
        s = step_at(500, pipe)
        x0 = s.clean(x, s.predict(x, s.t, s.labels))
        a = noise_schedule().alphas_cumprod[480].item()
        return x0, a, s
    x0, a, s = distance(x)
    noisy = a**.5 * x0 + (1 - a)**.5 * s.noise()
    again = (noisy - (1 - a)**.5 * s.predict(noisy, torch.full((6,), 480), s.labels)) / a**.5
    before = (x0 - again).square().sum((1, 2, 3))
    after = (distance(x + .05*(moved - x))[0] - again).square().sum((1, 2, 3))
    assert (after > before).all()
    assert torch.equal(Minority().move(x, None, step_at(500, pipe, 1)), x)      # only every fifth step


@pytest.mark.parametrize('criterion', ['entropy', 'loss'])
def test_feedback_goes_uphill_by_a_share_of_the_norm(pipe, phi, criterion):
    x, step = torch.randn(6, 1, 8, 8), step_at(300, pipe)
    hook, = Feedback(criterion=criterion).how(pipe, 0., phi)['hooks']
    moved = hook.move(x, None, step)
    norms = lambda v: v.flatten(1).norm(dim=1)
    assert torch.allclose(norms(moved - x), .03*norms(x), rtol=1e-3)
    def of(x):
        q, x0 = (1 - step.abar)**.5, step.clean(x, step.predict(x, step.t, LABELS))
        p = phi(q*x0 + (1 - q)*x).softmax(1)
        return -(p*p.log()).sum(1) if criterion == 'entropy' else -p[torch.arange(6), LABELS].log()
    assert (of(x + .02*(moved - x)) > of(x)).all()
    assert not any(p.grad is not None for p in (*phi.parameters(), *pipe.unet.parameters()))
    with pytest.raises(InputError, match='needs a classifier'): Feedback().how(pipe, 0.)
