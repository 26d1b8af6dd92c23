"Losses, samples and figures in a tracker of accelerate: one that this file brings, and TensorBoard's where it is installed."
import pytest
import torch
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, GeneralTracker

from ltnb.cli import main
from ltnb.core import InputError, load_json
from ltnb.folder import is_whole
from ltnb.runs import Run
from ltnb.sources import load_split
from ltnb.study import run_study
from ltnb.tracking import logbook
from ltnb.training import TrainingStopped, train


@pytest.fixture
def seen(monkeypatch):
    "Part -> what a tracker of this test's own was given: (values, step), pictures, and 'end'."
    seen = {}

    class Mine(GeneralTracker):
        name, requires_logging_directory, tracker = 'mine', True, None
        def __init__(self, run_name, logging_dir):
            super().__init__()
            self.got = seen.setdefault(run_name, [])
            self.got.append(logging_dir)
        def store_init_configuration(self, values): pass
        def log(self, values, step, **kwargs): self.got.append((values, step))
        def log_images(self, values, step, **kwargs): self.got.append({k: v.shape for k, v in values.items()})
        def finish(self): self.got.append('end')

    monkeypatch.setitem(LOGGER_TYPE_TO_CLASS, 'mine', Mine)
    return seen


def test_the_mean_loss_of_every_ten_steps_and_an_end_however_it_comes(seen, tmp_path):
    watch = lambda name: logbook('mine', tmp_path).watch(tmp_path / f'generators/{name}')
    losses = train(lambda i: torch.tensor(float(i)), 24, {}, watch=watch('ddpm-tau0.5'))[0]
    assert losses.tolist() == list(range(24))
    assert seen['generators/ddpm-tau0.5'] == [str(tmp_path / 'logs'), (dict(loss=4.5), 10), (dict(loss=14.5), 20), (dict(loss=21.5), 24), 'end']
    def broken(i):
        if i == 12: raise TrainingStopped
        return torch.tensor(1.)
    with pytest.raises(TrainingStopped): train(broken, 24, {}, watch=watch('cbdm'))
    assert seen['generators/cbdm'][1:] == [(dict(loss=1.), 10), 'end']


def test_a_study_logs_what_it_makes_and_nothing_that_is_there(seen, bars, tmp_path):
    how = dict(seeds=[0], rows=['ce'], generators=['ddpm'], say=lambda line: None, log='mine')
    results = run_study(load_split(f'folder:{bars}'), tmp_path / 'out', 'tiny', **how)
    assert set(seen) == {'generators/ddpm', 'classifiers/ce-0', 'samples/ddpm'}    # that of ce: accuracies, too
    (values, _), pictures = seen['samples/ddpm'][1:3]
    assert values['few/recall'] == results['generators']['ddpm']['few']['recall'] and 'overall/frechet' in values
    assert pictures == dict(samples=(1, 3 * 9 - 1, 8 * 9 - 1, 3)) and seen['samples/ddpm'][-1] == 'end'    # eight samples of each class, in colour
    assert seen['generators/ddpm'][-2][1] == 40 and seen['generators/ddpm'][-2][0]['loss'] > 0
    accuracies = [got for got in seen['classifiers/ce-0'] if isinstance(got, tuple) and 'few/accuracy' in got[0]]
    assert accuracies[0][0]['overall/accuracy'] == pytest.approx(results['classifiers']['ce']['accuracy']['mean'], abs=.01)
    assert is_whole(tmp_path / 'out') and 'log' not in str(load_json(tmp_path / 'out/study.json')['identity'])
    seen.clear()
    run_study(load_split(f'folder:{bars}'), tmp_path / 'out', 'tiny', **how | dict(rows=['ce', 'la']))
    assert set(seen) == {'classifiers/la-0'}


def test_without_a_tracker_nothing_is_logged(tmp_path):
    assert Run(load_split('digits'), tmp_path).log.watch(tmp_path / 'generators/ddpm') is None


@pytest.mark.parametrize('tracker, says', [('diary', "unknown tracker 'diary': it is one of aim, clearml"),
                                           ('comet_ml', '--log comet_ml needs its package: pip install comet_ml')])
def test_a_tracker_that_is_not_there_is_one_line_before_anything_is_made(tmp_path, capsys, monkeypatch, tracker, says):
    monkeypatch.setattr('importlib.util.find_spec', lambda name, package=None: None)
    for command in ['study', '--data', 'digits'], ['experiment', 'cbdm', '--data', 'digits']:
        with pytest.raises(SystemExit) as e: main([*command, '--log', tracker, '--preset', 'tiny', '--out', str(tmp_path / 'out')])
        err = capsys.readouterr().err
        assert e.value.code == 2 and says in err and err.count('\n') == 1 and not (tmp_path / 'out').exists()


def test_a_tracker_that_does_not_start_is_one_line(tmp_path, monkeypatch):
    class Refuses(GeneralTracker):
        name, requires_logging_directory, tracker = 'refuses', False, None
        def __init__(self, run_name): raise RuntimeError('not logged in\nat all')
        def store_init_configuration(self, values): pass
        def log(self, values, step): pass
    monkeypatch.setitem(LOGGER_TYPE_TO_CLASS, 'refuses', Refuses)
    with pytest.raises(InputError, match=r'^--log refuses cannot be started \(not logged in\)$'):
        train(lambda i: torch.tensor(1.), 3, {}, watch=logbook('refuses', tmp_path).watch(tmp_path / 'x'))


def test_tensorboard_itself(tmp_path):
    pytest.importorskip('tensorboard', reason="needs tensorboard: pip install 'ltnb[log]'")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    run = Run(load_split('digits'), tmp_path, 'tiny', log=logbook('tensorboard', tmp_path))
    figures = run.figures('ddpm')
    def of(part):
        events = EventAccumulator(str(tmp_path / 'logs' / part))
        events.Reload()
        return events
    losses = of('generators/ddpm').Scalars('loss')
    assert [e.step for e in losses] == [10, 20, 30, 40] and losses[-1].value > 0
    samples = of('samples/ddpm')
    assert samples.Scalars('few/recall')[0].value == pytest.approx(figures['few']['recall'], abs=1e-4)
    assert len(samples.Images('samples')) == 1 and samples.Images('samples')[0].width == 8 * 9 - 1
