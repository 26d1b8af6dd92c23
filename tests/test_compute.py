"Jobs in their order, one process that is a team of its own, and workers that die."
import os
from collections import OrderedDict
from dataclasses import replace

import pytest
import torch

from ltnb.compute import (Speed, alone, default_device, gather, has_bf16, in_parallel, is_main, kept_on,
                          machine, mixed_precision, on_main, remembered, team, usual_speed, versions, way_of_computing)
from ltnb.core import TrainingError


def test_jobs_start_when_what_they_need_is_done_and_results_keep_the_order_of_the_jobs():
    order, jobs = [], [(7, 3), (12, 18), (10, 4)]
    results = in_parallel(divmod, jobs, 1, after={(7, 3): [(10, 4)], (10, 4): [(12, 18), (1, 1)]},
                          on_done=lambda job, result: order.append((job, result)))
    assert results == [(2, 1), (0, 12), (2, 2)]
    assert order == [((12, 18), (0, 12)), ((10, 4), (2, 2)), ((7, 3), (2, 1))]
    assert in_parallel(divmod, [], 2) == []


@pytest.mark.slow
def test_workers_take_the_jobs_and_one_that_dies_is_told_in_one_line():
    pids = in_parallel(eval, [('__import__("os").getpid()',), ('__import__("torch").get_num_threads()',)], 2)
    assert pids[0] != os.getpid() and pids[1] == 1
    with pytest.raises(ZeroDivisionError): in_parallel(divmod, [(1, 0), (1, 1)], 2)
    with pytest.raises(TrainingError, match='jobs: a worker process died') as e: in_parallel(os._exit, [(9,), (9,)], 2)
    assert '\n' not in str(e.value)


def test_one_process_is_a_team_of_its_own():
    assert team().num_processes == 1 and is_main() and gather('mine') == ['mine'] and on_main(divmod, 7, 2) == (3, 1)
    with alone(): assert team().num_processes == 1
    with pytest.raises(ZeroDivisionError): on_main(divmod, 1, 0)
    assert way_of_computing(1).get('precision') == ('bfloat16' if has_bf16(default_device()) else None)
    assert machine()['processes'] == 1 and set(versions()) >= {'ltnb', 'python', 'torch', 'diffusers'}


def test_networks_are_run_as_the_hardware_likes_best():
    cpu, cuda = torch.device('cpu'), torch.device('cuda')
    assert usual_speed(cpu) == Speed() and usual_speed(cpu, 50_000) == Speed(bf16=has_bf16(cpu))
    for steps in 6000, 20_000:
        assert usual_speed(cuda, steps) == Speed(has_bf16(cuda), compile=steps >= 20_000, graph=True)


def test_mixed_precision_is_bfloat16_where_the_hardware_has_it():
    cpu, x = torch.device('cpu'), torch.ones(2, 2)
    with mixed_precision(cpu): assert (x @ x).dtype == (torch.bfloat16 if has_bf16(cpu) else torch.float32)
    with mixed_precision(cpu, False): assert (x @ x).dtype == torch.float32
    assert default_device().type in ('cpu', 'cuda', 'mps')


def test_what_a_function_said_of_the_same_images_is_remembered_as_far_as_there_is_room(monkeypatch):
    monkeypatch.setattr('ltnb.compute._answers', OrderedDict())
    asked, images = [], torch.arange(48, dtype=torch.uint8).view(4, 3, 2, 2)
    def of(name): return remembered(lambda x: asked.append((name, len(x))) or x.flatten(1).float(), name)
    first = of('phi')(images)
    first += 1          # which must not change what is kept
    assert torch.equal(of('phi')(images.clone()), images.flatten(1).float()) and asked == [('phi', 4)]
    of('oracle')(images), of('phi')(images[:2]), of('phi')(images + 1)
    assert asked[1:] == [('oracle', 4), ('phi', 2), ('phi', 4)]
    monkeypatch.setattr('ltnb.compute.REMEMBERED', 2 * first.nbytes)
    of('phi')(images), of('phi')(images + 1)
    assert len(asked) == 4, 'what was asked for last is kept'
    of('oracle')(images), of('phi')(images)
    assert asked[4:] == [('oracle', 4), ('phi', 4)], 'what was not asked for longest is forgotten'
    monkeypatch.setattr('ltnb.compute.REMEMBERED', first.nbytes - 1)
    assert torch.equal(of('phi')(images), images.flatten(1).float()), 'an answer too large to be kept is still given'


def test_a_whole_set_goes_to_an_accelerator_only_where_half_of_what_is_free_holds_it(monkeypatch):
    import ltnb.classifiers
    import ltnb.compute
    import ltnb.generators
    from ltnb.classifiers import classifier_settings, train_classifier
    from ltnb.diffusion import generator_settings
    from ltnb.sources import load_split
    gpu, cpu = torch.device('cuda', 0), torch.device('cpu')
    monkeypatch.setattr(ltnb.compute, 'free_memory', lambda device: 1000 if device.type == 'cuda' else None)
    assert [kept_on(n, gpu) for n in (10, 500, 501, 10**12)] == [gpu, gpu, cpu, cpu] and kept_on(10**12, cpu) == cpu
    # both trainings ask; the set stays where they are told, and each batch goes where the network is
    split, asked = load_split('digits'), []
    for module in ltnb.classifiers, ltnb.generators:
        monkeypatch.setattr(module, 'kept_on', lambda n, device: asked.append((n, device)) or cpu)
    train_classifier(split, split.train, settings=replace(classifier_settings(split, 'tiny'), steps=2))
    ltnb.generators.train_generator(split, settings=replace(generator_settings(split, 'tiny'), steps=2))
    assert asked == [(split.train.images.nbytes, default_device())] * 2
