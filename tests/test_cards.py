"A generator that leaves the house: its card, and the same images where ltnb is not installed."
import builtins
import dis
import inspect
import json
import os
import shutil
import subprocess
import sys
import types
from dataclasses import replace

import pytest
import torch
from diffusers.utils import hub_utils
from huggingface_hub import ModelCard

from ltnb.cards import model_card, pipeline_code, update_card
from ltnb.data import ImageSet, Split
from ltnb.diffusion import generator_settings, with_sampler
from ltnb.folder import is_whole
from ltnb.generators import load_generator, train_generator
from ltnb.study import kept_run

ALONE = '''
import sys
class NoLtnb:
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] == 'ltnb': raise ModuleNotFoundError(f'no {name} here', name=name)
sys.meta_path.insert(0, NoLtnb())
try: import ltnb
except ModuleNotFoundError: pass
else: raise SystemExit('ltnb is here')
import torch
from diffusers import DiffusionPipeline, UNet2DModel, DPMSolverMultistepScheduler
torch.set_num_threads(1)
out, *paths = sys.argv[1:]
drawn = []
for path in paths:
    pipe = DiffusionPipeline.from_pretrained(path, custom_pipeline=path, trust_remote_code=True)
    assert type(pipe.unet) is UNet2DModel and type(pipe.scheduler) is DPMSolverMultistepScheduler
    gs = [torch.Generator().manual_seed(i) for i in range(4)]
    drawn.append(pipe(class_labels=[0, 1, 1, 0], guidance_scale=1.5, num_inference_steps=4, generator=gs, output_type='pt').images)
    assert UNet2DModel.from_pretrained(path, subfolder='unet').config.in_channels
    assert pipe(class_labels=[1], num_inference_steps=2).images[0].size
    try: pipe(class_labels=[9])
    except ValueError as e: assert 'class labels must be from 0 to' in str(e)
    else: raise SystemExit('class 9 was drawn')
assert not [m for m in sys.modules if m.partition('.')[0] == 'ltnb']
torch.save(drawn, out)
'''


def alone(paths, tmp_path):
    "What the generators in `paths` draw in a process in which ltnb cannot be imported."
    env = {k: v for k, v in os.environ.items() if k != 'PYTHONPATH'} | dict(HF_MODULES_CACHE=str(tmp_path / 'modules'), HF_HUB_OFFLINE='1')
    command = [sys.executable, '-c', ALONE, str(tmp_path / 'drawn.pt'), *map(str, paths)]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return torch.load(tmp_path / 'drawn.pt')


def draw(pipe):
    gs = [torch.Generator().manual_seed(i) for i in range(4)]
    return pipe(class_labels=[0, 1, 1, 0], guidance_scale=1.5, num_inference_steps=4, generator=gs, output_type='pt').images


@pytest.fixture(scope='module')
def generators(tmp_path_factory):
    "Of 8×8 pixels, and of 32×32 whose pixels are folded into channels."
    root = tmp_path_factory.mktemp('cards')
    for s in 8, 32:
        images = ImageSet(torch.randint(256, (20, 1, s, s), dtype=torch.uint8), torch.arange(20) % 2)
        split = Split('noise', images, images, ['a|b', 'two\n# lines'])
        train_generator(split, settings=replace(generator_settings(split, 'tiny'), steps=2), path=root / f'g{s}')
    return [root / 'g8', root / 'g32']


@pytest.fixture
def generator(generators): return generators[0]


@pytest.fixture
def hub(tmp_path, monkeypatch):
    "Where uploads go instead: all but the network is diffusers' own."
    def upload(repo_id, folder_path, **kwargs): shutil.copytree(folder_path, tmp_path / 'hub' / repo_id)
    monkeypatch.setattr(hub_utils, 'create_repo', lambda repo_id, **kwargs: types.SimpleNamespace(repo_id=repo_id))
    monkeypatch.setattr(hub_utils, 'load_or_create_model_card', lambda *args, **kwargs: ModelCard('---\n---\na card of diffusers'))
    monkeypatch.setattr(hub_utils, 'populate_model_card', lambda card, **kwargs: card)
    monkeypatch.setattr(hub_utils, 'upload_folder', upload)
    return tmp_path / 'hub'


def test_it_draws_the_same_images_where_ltnb_is_not_installed(generators, tmp_path, hub):
    shutil.copytree(generators[0], tmp_path / 'theirs')
    load_generator(generators[1]).push_to_hub('me/noise')
    drawn = alone([tmp_path / 'theirs', hub / 'me/noise'], tmp_path)
    for images, path in zip(drawn, generators, strict=True): assert torch.equal(images, draw(load_generator(path)))


def test_the_pipeline_s_file_lacks_no_name():
    "Also on the ways through it that no test goes."
    def functions(code): # all in it, those of classes and within others, too
        for c in code.co_consts:
            if isinstance(c, types.CodeType):
                if c.co_flags & inspect.CO_OPTIMIZED: yield c
                yield from functions(c)
    code, module = compile(pipeline_code(), 'pipeline.py', 'exec'), {}
    exec(code, module)
    found = list(functions(code))
    used = {i.argval for c in found for i in dis.get_instructions(c) if i.opname == 'LOAD_GLOBAL'}
    assert len(found) > 30 and not used - set(module) - set(dir(builtins))
    assert not [name for name, x in module.items() if str(getattr(x, '__module__', '')).startswith('ltnb')]


def test_what_is_uploaded_is_what_was_saved(generator, hub):
    with_sampler(load_generator(generator)).push_to_hub('me/noise')
    files = {p.relative_to(generator) for p in generator.rglob('*') if p.is_file() and p.name != 'training.json'}
    assert {p.relative_to(hub / 'me/noise') for p in (hub / 'me/noise').rglob('*') if p.is_file()} == files
    for f in files:     # diffusers notes in its own JSON where networks were read from
        if f.suffix != '.json': assert (hub / 'me/noise' / f).read_bytes() == (generator / f).read_bytes()


def test_the_card_is_not_part_of_what_a_generator_is(generator, tmp_path):
    shutil.copytree(generator, path := tmp_path / 'g')
    before = load_generator(path)
    (path / 'README.md').write_text('edited by hand')
    (path / 'pipeline.py').unlink()
    again = load_generator(path)
    assert again.training == before.training and torch.equal(draw(again), draw(before))
    again.save_pretrained(tmp_path / 'copy')
    assert (tmp_path / 'copy/README.md').read_text() == 'edited by hand' and (tmp_path / 'copy/pipeline.py').exists()


def test_a_card_says_what_it_was_trained_on_and_how(generator):
    card = (generator / 'README.md').read_text()
    for line in ('# ddpm_loss on noise', r'| 0 | a\|b | 10 | few |', '| 1 | two # lines | 10 | few |', '- steps = 2', '- seed = 0',
                 'fewer than 20: a|b, two # lines', 'No figures have been measured yet.'): assert line in card, line
    assert card.startswith('---\nlibrary_name: diffusers\n') and 'must not be used for' in card
    old = {k: v for k, v in json.loads((generator / 'training.json').read_text()).items() if k != 'data'}     # of an earlier version
    assert '# ddpm_loss on ?' in model_card(old)


def test_a_study_puts_its_figures_into_the_cards(study, tmp_path):
    (results, out), run = study, kept_run(study[1])
    card = (out / 'generators/cbdm/README.md').read_text()
    few = results['generators']['cbdm']['few']
    assert f'| cbdm | few | {few["precision"]:.2f} | {few["recall"]:.2f} |' in card and 'features of the cross-entropy classifier' in card
    assert '| cbdm | many |' not in card    # there are none
    assert run.generator('cbdm').extra['README.md'] == card
    (edited := tmp_path / 'README.md').write_text('mine')
    update_card(edited, run.generator('cbdm').training, {'cbdm': run.figures('cbdm')}, 'pixels')
    assert edited.read_text() == 'mine'     # as the line that asks for a new one is not in it
    edited.write_text(card.replace('cbdm', 'CBDM'))
    update_card(edited, run.generator('cbdm').training, {'cbdm': run.figures('cbdm')}, 'features of the cross-entropy classifier (real images: held-out test images)')
    assert edited.read_text() == card
    assert is_whole(out) and 'generators/cbdm/README.md' not in json.loads((out / 'manifest.json').read_text())
