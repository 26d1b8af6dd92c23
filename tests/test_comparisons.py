"Tables of experiments: methods beside each other, each as left-out images chose it."
import pytest

from ltnb.comparisons import above, at_own_tau, chosen_rows, chosen_table, compared_table


def test_methods_are_compared_with_the_best_way_of_the_plain_one():
    spread = lambda *values: dict(mean=sum(values) / len(values), std=1., values=list(values))
    def row(name, few, sau, **how): # few: (recall, class consistency) of each way and draw
        curve = [dict(few=[dict(recall=r, class_consistency=c) for r, c in way], score=sum(2*r*c / (r + c) for r, c in way) / 3) for way in few]
        best = max(curve, key=lambda way: way['score'])['few']
        shown = {k: spread(.5) for k in ('coverage', 'precision', 'memorised')} | {k: spread(*(f[k] + .1 for f in best)) for k in ('recall', 'class_consistency')}
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
    one = dict(draws=['ldam'], rows=[base, better])      # what is compared was seen on test images, a tenth better than what chose
    def first(r): return {k: spread(v['values'][0]) for k, v in r['figures']['few'].items()}
    assert 'to' not in compared_table(dict(one, rows=[dict(r, figures=dict(few=first(r)),
        accuracy=dict(r['accuracy'], sau=dict(few=spread(r['accuracy']['sau']['few']['values'][0])))) for r in one['rows']]))[1]['score above DDPM']


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


def test_tau_is_chosen_for_all_classes_by_left_out_images_and_read_off_for_each_draw():
    curve = dict(tau=[0., 1., 2.], left_out=dict(all=[60., 62., 61.], few=[10., 20., 40.]),
                 test=dict(all=[50., 51., 55.], few=[1., 2., 9.], draws=dict(all=[[48., 50., 54.], [52., 52., 56.]], few=[[0., 1., 8.], [2., 3., 10.]])))
    assert at_own_tau(dict(curve=curve)) == dict(tau=1., all=[50., 52.], few=[1., 3.])
    curve['test']['draws']['few'] = None        # no class is few-shot
    assert at_own_tau(dict(curve=curve))['few'] is None
