"Tables of experiments: methods beside each other, each as left-out images chose it."
import pytest

from ltnb.comparisons import SHARED, above, at_own_tau, chosen_rows, chosen_table, compared_table, ddpm_like_cbdm, few_at, figure_at, lines, over_draws
from ltnb.experiments import COMPARED


def test_methods_are_compared_with_the_best_way_of_the_plain_one():
    spread = lambda *values: dict(mean=sum(values) / len(values), std=1., values=list(values))
    def row(name, few, sau, *chosen): # few: (recall, class consistency) of each way and draw; chosen: in each draw
        curve = [dict(few=[dict(recall=r, class_consistency=c) for r, c in way], score=sum(2*r*c / (r + c) for r, c in way) / 3) for way in few]
        best = max(curve, key=lambda way: way['score'])['few']
        shown = {k: spread(.5) for k in ('coverage', 'precision', 'memorised')} | {k: spread(*(f[k] + .1 for f in best)) for k in ('recall', 'class_consistency')}
        return dict(compared=name, curve=curve, figures=dict(few=shown), accuracy=dict(ce=dict(few=spread(30.)), sau=dict(few=spread(*sau))),
                    cost=1., left_out=[2*f['recall']*f['class_consistency'] / (f['recall'] + f['class_consistency']) for f in best], chosen=[dict(guidance=None, strength=1., tau=1., policy=None) | way for way in chosen])
    base = row('ddpm', [[(.2, .2)]*3, [(.5, .5), (.6, .6), (.4, .4)]], [50., 52., 54.], *[{}]*3)
    better = row('t2h', [[(.6, .6), (.7, .7), (.55, .55)]], [56., 57., 61.], dict(strength=.1), *[dict(guidance=.5, policy='cads')]*2)
    recorded = dict(draws=['ldam', 1, 2], rows=[base, better])
    score, sau = above(recorded, 't2h')
    assert score['mean'] == pytest.approx((.1 + .1 + .15) / 3) and score['low'] > 0 and sau['mean'] == pytest.approx(6.)
    plain, row = compared_table(recorded)
    assert plain['chosen'] == 'w = 0' and row['chosen'] == 'w = 0.5, cads (2 draws); w = 0, strength 0.1' and row['SAU'] == '58.0'
    assert row['score above DDPM'].startswith('+0.117 (+') and plain['SAU above DDPM'] == '+0.0'
    one = dict(draws=['ldam'], rows=[base, better])      # what is compared was seen on test images, a tenth better than what chose
    def first(r): return {k: spread(v['values'][0]) for k, v in r['figures']['few'].items()}
    assert 'to' not in compared_table(dict(one, rows=[dict(r, figures=dict(few=first(r)),
        accuracy=dict(r['accuracy'], sau=dict(few=spread(r['accuracy']['sau']['few']['values'][0])))) for r in one['rows']]))[1]['score above DDPM']


def test_draws_are_put_together_and_lines_are_read_off_draw_by_draw():
    accuracy = lambda *few: {m: dict(few=dict(mean=f, std=0., values=[f]), per_class=[dict(mean=f, std=0., values=[f])]*10) for m, f in zip(('ce', 'sau', 'la'), few)}
    figures = dict(few=dict(recall=dict(mean=.5, std=0., values=[.5]), memorised=None))
    def row(m, draw, seconds, recall, strength=1.): # recall at each guidance; class consistency .4, .5, .6, .7
        ways = [dict(guidance=w, policy=None, strength=k, tau=1., score=r, few=[dict(recall=r, class_consistency=c, memorised=None)])
                for k in (1., .1) for w, r, c in zip(SHARED, recall, (.4, .5, .6, .7))]
        return dict(compared=m, draw=draw, curve=ways, accuracy=accuracy(30., 40.), figures=figures, picture=f'{m} {draw}', guidance=0., policy=None, strength=strength,
                    tau=1., seconds=dict(training=seconds, an_image=.01))
    real = [dict(compared='real', draw=d, curve=[], accuracy=accuracy(20., 25., 30. + 10*(d == 1))) for d in ('ldam', 1)]
    rows = [*real, row('ddpm', 'ldam', 100., (.8, .7, .6, .5)), row('ddpm', 1, 200., (.9, .8, .7, .6)),
            row('coral', 'ldam', 900., (.8, .7, .6, .5)), row('coral', 1, 500., (.6, .5, .4, .3), .1)]
    lots = [dict(draw='ldam', methods=['real', 'ddpm']), dict(draw='ldam', methods=['coral']), dict(draw=1, methods=['real', 'ddpm', 'coral'])]
    both = over_draws(dict(draws=['ldam', 1], rows=rows, lots=lots, settings=dict(sampling=dict(per_class=10))))
    assert [r['compared'] for r in both['rows']] == ['ddpm', 'coral'] and both['without']['la']['few']['values'] == [30., 40.]
    ddpm, coral = both['rows']
    assert coral['cost'] == pytest.approx(501 / 201) and ddpm['cost'] == 1      # the seconds of another lot are not compared
    assert [c['strength'] for c in coral['chosen']] == [1., .1] and coral['left_out'] == [.8, .6] and coral['figures']['few']['memorised'] is None
    assert [*lines(coral)] == ['coral', 'coral, strength 0.1'] and coral['picture'] == 'coral ldam'
    assert figure_at(lines(coral)['coral'], .65) == pytest.approx([.55, .35]) and figure_at(lines(coral)['coral'], .75) is None
    rows[3]['curve'][3]['few'][0]['class_consistency'] = .62      # the line of one draw ends earlier
    ddpm, coral = over_draws(dict(both, rows=rows))['rows']
    assert figure_at(lines(ddpm)['ddpm'], .65) is None and figure_at(lines(ddpm)['ddpm'], .61) == pytest.approx([.59, .65])


def test_every_trained_method_is_drawn_with_the_shared_weights():
    trained = [ways for ways in COMPARED.values() if not any(way.policy for way in ways)]
    assert len(trained) == 8 and all({*SHARED} <= {way.guidance for way in ways} for ways in trained)


def test_each_family_is_chosen_by_left_out_images_and_by_nothing_else():
    def row(method, recipe, filter, omega, validation, few, full=False):
        chosen = lambda mean: dict(mean=mean, chosen=dict(tau=.5))
        return dict(method=method, recipe=recipe, filter=filter, only_few=False, omega=omega, full=full, validation=dict(mean=validation), accuracy=chosen(70.),
                    few=chosen(sum(map(sum, few[0])) / 4) | dict(values=[x for draw in few for x in draw[0]]))
    cbdm = dict(method='cbdm', guidance=.5, strength=1., tau=1., policy=None)
    recorded = dict(draws=['ldam', 1], rows=[
        row('ce', None, 'none', 1., 60., [[[50., 52.]], [[54., 56.]]]), row('la', None, 'none', 1., 65., [[[60., 61.]], [[60., 61.]]]),
        row('ce', cbdm, 'none', 1., 61., [[[90., 90.]], [[90., 90.]]]), row('ce', cbdm, 'neighbours', .3, 66., [[[62., 64.]], [[65., 67.]]])])
    best = chosen_rows(recorded)
    assert [*best] == [('ce', 'real'), ('la', 'real'), ('ce', 'CBDM')]
    assert (best['ce', 'CBDM']['filter'], best['ce', 'CBDM']['tried']) == ('neighbours', 2)      # not what does best on test images
    ce, la, filled = chosen_table(recorded)
    assert la['few above la'].startswith('+0.0') and filled['few above la'].startswith('+4.0 (') and ce['few above la'].startswith('-7.5')
    assert (filled['samples'], filled['generated'], filled['weight'], filled['tau']) == ('w = 0.5', 'all filled up', .3, .5)


def test_the_ddpm_with_cbdms_class_consistency_lies_on_its_own_line():
    def row(method, draw, w, consistency, recall, **k):
        return dict(method=method, draw=draw, guidance=w, tau=1., prior='train', length=1., fine_tuned=False,
                    figures=dict(few=dict(class_consistency=consistency, recall=recall))) | k
    ddpm = [row('ddpm', d, w, c, r) for d in ('ldam', 1) for w, c, r in ((0., .6, .6), (-.5, .2, .8 + .1*(d == 1)))]
    cbdm = [row('cbdm', 'ldam', 0., .4, .65), row('cbdm', 1, 0., .3, .7)]
    others = [row('cbdm', 1, 0., .1, .9, **k) for k in (dict(tau=2.), dict(prior='uniform'), dict(length=2.), dict(fine_tuned=True), dict(guidance=.5))]
    level = ddpm_like_cbdm(dict(rows=[*ddpm, *cbdm, *others]))
    assert level['w'] == pytest.approx([-.25, -.375]) and level['recall'] == pytest.approx([.7, .825]) and level['cbdm'] == [.65, .7]
    beyond = ddpm_like_cbdm(dict(rows=[*ddpm, row('cbdm', 'ldam', 0., .1, .9)]))
    assert beyond['recall'][0] != beyond['recall'][0] and beyond['cbdm'] == [.9]


def test_tau_is_chosen_for_all_classes_by_left_out_images_and_read_off_for_each_draw():
    curve = dict(tau=[0., 1., 2.], left_out=dict(all=[60., 62., 61.], few=[10., 20., 40.]),
                 test=dict(all=[50., 51., 55.], few=[1., 2., 9.], draws=dict(all=[[48., 50., 54.], [52., 52., 56.]], few=[[0., 1., 8.], [2., 3., 10.]])))
    assert at_own_tau(dict(curve=curve)) == dict(tau=1., all=[50., 52.], few=[1., 3.])
    curve['test']['draws']['few'] = None        # no class is few-shot
    assert at_own_tau(dict(curve=curve))['few'] is None


def test_few_shot_accuracy_at_an_accuracy_over_all_classes():
    every, few = [60., 64., 62., 50.], [10., 20., 30., 70.]
    r = dict(curve=dict(tau=[0., 1., 2., 3.], test=dict(draws=dict(all=[every, every], few=[few, few]))))
    assert few_at(r, [63., 56.]) == [25., 50.]      # beyond the best accuracy over all, not before it
    outside = few_at(r, [65., 40.])
    assert all(x != x for x in outside)
