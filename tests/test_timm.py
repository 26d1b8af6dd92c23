"Networks of others: features of pretrained ones, and classifiers that are any module."
from dataclasses import asdict, replace

import pytest
import torch
from torch import nn

from ltnb.classifiers import NETWORKS, Adapted, ClassifierSettings, build, classifier_settings, features, logits, train_classifier
from ltnb.core import InputError
from ltnb.data import ImageSet, Split
from ltnb.metrics import _timm, class_figures, feature_space
from ltnb.rebalancing import METHODS
from ltnb.runs import Run
from ltnb.sources import load_split
from ltnb.specs import Learner, run_settings
from ltnb.study import kept_run, run_study


@pytest.fixture
def timm(monkeypatch):
    monkeypatch.setattr('huggingface_hub.constants.HF_HUB_OFFLINE', True)
    _timm.cache_clear()
    yield pytest.importorskip('timm', reason="needs timm: pip install 'ltnb[timm]'")
    _timm.cache_clear()


@pytest.fixture
def weights(timm, tmp_path):
    "A small network of timm with weights of its own on the disk, as `timm.models.save_for_hf` leaves it."
    from timm.models import save_for_hf
    torch.manual_seed(3)
    net = timm.create_model('test_resnet')
    save_for_hf(net, tmp_path / 'weights')
    return net.eval(), f'timm:local-dir:{tmp_path / "weights"}'


def test_features_of_a_network_on_the_disk_are_those_of_timm_s_own_transform(timm, weights):
    from PIL import Image
    net, name = weights
    config = timm.data.resolve_model_data_config(net)
    images = torch.randint(256, (3, 3, 40, 40), dtype=torch.uint8)
    f = feature_space(name)(images, batch_size=2)
    theirs = timm.data.create_transform(**config | dict(crop_pct=1.), is_training=False)
    x = torch.stack([theirs(Image.fromarray(im.permute(1, 2, 0).numpy())) for im in images])
    with torch.no_grad(): expected = net.forward_head(net.forward_features(x), pre_logits=True)
    assert f.shape == (3, net.num_features) and torch.allclose(f, expected, atol=.02 * expected.abs().max())    # PIL rounds to bytes
    gray = images[:, :1]
    assert torch.equal(feature_space(name)(gray), feature_space(name)(gray.expand(-1, 3, -1, -1)))


def test_weights_are_looked_for_in_the_cache_of_the_hub(timm, tmp_path, monkeypatch):
    from huggingface_hub import constants
    from safetensors.torch import save_file
    monkeypatch.setattr(constants, 'HF_HUB_CACHE', str(tmp_path))
    with pytest.raises(InputError, match=rf'^timm:test_resnet cannot be had \(.*\).*then lie in {tmp_path}$') as e: feature_space('timm:test_resnet')
    assert '\n' not in str(e.value)
    with pytest.raises(InputError, match=r'^timm:no_such_net cannot be had \(Unknown model \(no_such_net\)\)'): feature_space('timm:no_such_net')
    net = timm.create_model('test_resnet')
    at = tmp_path / f'models--{net.default_cfg["hf_hub_id"].replace("/", "--")}'
    (at / 'snapshots/0').mkdir(parents=True)
    (at / 'refs').mkdir()
    (at / 'refs/main').write_text('0')
    save_file(net.state_dict(), at / 'snapshots/0/model.safetensors')
    assert feature_space('timm:test_resnet')(torch.zeros(2, 1, 8, 8, dtype=torch.uint8)).shape == (2, net.num_features)


def test_a_study_measured_by_and_made_of_networks_of_timm(timm, weights, bars, tmp_path):
    how = dict(seeds=[0], rows=['ce', 'crt', 'sau'], generators=['ddpm'], say=lambda line: None)
    results = run_study(load_split(f'folder:{bars}'), tmp_path / 'out', 'tiny', features=weights[1], network='timm:test_efficientnet', **how)
    assert results['settings']['metrics']['features'] == weights[1] and results['generators']['ddpm']['few']['recall'] is not None
    assert {r['network'] for r in results['classifiers'].values()} == {'timm:test_efficientnet'}
    run = kept_run(tmp_path / 'out')
    assert asdict(run.settings) == asdict(run_settings(run.split, 'tiny', weights[1], 'timm:test_efficientnet'))
    assert type(run.classifier('sau')).__name__ == 'Adapted'
    images = run.split.test.images
    own = class_figures(run.split, run.samples('ddpm').images, run.samples('ddpm').labels, feature_space(weights[1]))
    assert own['overall']['frechet'] == pytest.approx(run.figures('ddpm')['overall']['frechet']) and len(images)


def test_a_study_says_at_once_what_is_missing(timm, bars, tmp_path, monkeypatch):
    monkeypatch.setattr('huggingface_hub.constants.HF_HUB_CACHE', str(tmp_path / 'hub'))
    with pytest.raises(InputError, match='timm:test_vit cannot be had'):
        run_study(load_split(f'folder:{bars}'), tmp_path / 'out', 'tiny', features='timm:test_vit', say=print)
    assert not (tmp_path / 'out/generators').exists()
    with pytest.raises(InputError, match="timm has no network 'nothing'"): run_settings(load_split('digits'), network='timm:nothing')
    with pytest.raises(InputError, match='timm:test_vit cannot be made for images of 1×8×8 .its patches are larger'):   # patches of 16 pixels
        build(load_split('digits'), ClassifierSettings('timm:test_vit'))


@pytest.mark.parametrize('name', ['test_resnet', 'test_vit', 'test_convnext'])
def test_a_classifier_of_timm_has_features_and_a_head(timm, name):
    images = ImageSet(torch.randint(256, (12, 1, 32, 32), dtype=torch.uint8), torch.arange(12) % 3)
    split = Split('noise', images, images, ['a', 'b', 'c'])
    net = build(split, ClassifierSettings(f'timm:{name}')).eval()
    assert features(net, images.images).shape == (12, net.num_features) and isinstance(net.head, nn.Linear)
    assert logits(net, images.images).shape == (12, 3)
    torch.manual_seed(0)
    whole = timm.create_model(name, in_chans=1, num_classes=3, **dict(img_size=32) if 'vit' in name else {}).eval()
    with torch.no_grad(): assert torch.allclose(Adapted(whole, 3)(torch.ones(2, 1, 32, 32)), _again(timm, name)(torch.ones(2, 1, 32, 32)))


def _again(timm, name): # the same network, not adapted
    torch.manual_seed(0)
    return timm.create_model(name, in_chans=1, num_classes=3, **dict(img_size=32) if 'vit' in name else {}).eval()


# ---- without timm

@pytest.fixture
def mine(monkeypatch):
    "A network that knows nothing of ltnb."
    monkeypatch.setitem(NETWORKS, 'Mine', lambda channels, num_classes, width: nn.Sequential(
        nn.Flatten(), nn.Linear(channels * 64, width), nn.ReLU(), nn.Sequential(nn.Linear(width, num_classes))))
    return ClassifierSettings('Mine', 8, steps=3)


@pytest.mark.parametrize('method', [*METHODS, 'sau'])
def test_every_method_trains_any_module(mine, method, tmp_path):
    split = load_split('digits')
    net = Learner(method).train(split, split.train, mine, 0, tmp_path / 'net.safetensors')
    assert logits(net, split.test.images[:5]).shape == (5, 10) and net.num_features == 8
    again = Learner(method).train(split, split.train, mine, 0, tmp_path / 'net.safetensors')     # loaded
    assert torch.equal(logits(net, split.test.images[:5]), logits(again, split.test.images[:5]))


def test_a_run_with_a_network_of_one_s_own(mine, tmp_path):
    split = load_split('digits')
    run = Run(split, tmp_path, run_settings(split, 'tiny', network='Mine'))
    assert run.settings.sau.classifier.network == 'Mine' and type(run.phi0().body) is nn.Sequential
    assert run.score('ce', [0])['accuracy']['mean'] > 15    # 10 by chance


@pytest.mark.parametrize('net, says', [(nn.Linear(64, 10), 'Linear has no linear layer of 10 outputs after'),
                                       (nn.Sequential(nn.Flatten(), nn.Linear(64, 9)), 'Sequential has no linear layer of 10')])
def test_a_module_without_a_head_is_one_line(net, says):
    with pytest.raises(InputError, match=says): Adapted(net, 10)


def test_unknown_networks_and_missing_packages_are_one_line(monkeypatch):
    import sys
    split = load_split('digits')
    with pytest.raises(InputError, match="unknown network 'VGG': it is one of SmallNet, ResNet32"): run_settings(split, network='VGG')
    with pytest.raises(InputError, match="unknown network 'VGG'"): train_classifier(split, split.train, settings=replace(classifier_settings(split), network='VGG'))
    monkeypatch.setitem(sys.modules, 'timm', None)
    _timm.cache_clear()
    for ask in lambda: run_settings(split, network='timm:resnet18'), lambda: feature_space('timm:resnet18'):
        with pytest.raises(InputError, match=r"needs the package timm: pip install 'ltnb\[timm\]'"): ask()
