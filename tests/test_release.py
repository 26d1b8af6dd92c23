"What is published: the wheel holds the notebooks, badges need an address, and the files about the project say what the code says."
import json
import re
import shutil
import subprocess
import sys

import pytest
from badges import BADGE, INSTALL, pins, settings, with_badge
from conftest import ROOT
from release import members

import ltnb
from ltnb.cli import main


def test_the_wheel_has_the_notebooks_once_and_all_that_is_needed(tmp_path):
    for name in ('ltnb', 'nbs'): shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns('__pycache__', '.ipynb_checkpoints'))
    for name in ('settings.ini', 'setup.py', 'pyproject.toml', 'README.md', 'MANIFEST.in'): shutil.copy(ROOT / name, tmp_path)
    subprocess.run([sys.executable, 'setup.py', '-q', 'bdist_wheel'], cwd=tmp_path, check=True, capture_output=True)
    (wheel,) = (tmp_path / 'dist').glob('*.whl')
    there = members(wheel)
    assert {f'ltnb/nbs/{p.relative_to(ROOT / "nbs")}' for p in (ROOT / 'nbs').rglob('*')
            if p.is_file() and p.suffix in ('.ipynb', '.json', '.png') and '.ipynb_checkpoints' not in p.parts} <= there
    assert {'ltnb/packs/fashion.pack', 'ltnb/report.html', 'ltnb/widgets/grid.js'} <= there
    assert not [f for f in there if f.startswith(('nbs/', 'tests/', 'benchmarks/'))] and wheel.stat().st_size < 10e6


def test_lab_copies_the_notebooks_keeps_what_is_there_and_opens_jupyterlab(tmp_path, monkeypatch, capsys):
    ran = []
    monkeypatch.setattr('os.execv', lambda program, args: ran.append((program, args)))
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'mine').mkdir()
    (tmp_path / 'mine/10_collapse.ipynb').write_text('edited')
    main(['lab', 'mine'])
    (program, args), = ran
    assert program == sys.executable and args[1:4] == ['-m', 'jupyterlab', '--notebook-dir=mine'] and args[-1] == 'mine/index.ipynb'
    assert (tmp_path / 'mine/10_collapse.ipynb').read_text() == 'edited' and 'files copied' in capsys.readouterr().out
    assert (tmp_path / 'mine/recorded/fashion/study.json').exists() and (tmp_path / 'mine/images/missed_modes.png').exists()
    cells = json.loads((tmp_path / 'mine/20_cbdm.ipynb').read_text())['cells']
    assert len(cells) > 10 and not [c for c in cells if 'nbdev' in ''.join(c['source'])]
    main(['lab', '--copy', 'mine'])
    assert 'there already' in capsys.readouterr().out and len(ran) == 1


@pytest.mark.parametrize('case, says', [('file', 'is a file'), ('no jupyterlab', r"pip install 'ltnb\[lab\]'"), ('old wheel', 'install ltnb again')])
def test_lab_says_in_one_line_why_not(tmp_path, monkeypatch, capsys, case, says):
    (tmp_path / 'mine').write_text('') if case == 'file' else None
    if case == 'no jupyterlab': monkeypatch.setattr('importlib.util.find_spec', lambda name, package=None: None)
    if case == 'old wheel': monkeypatch.setattr('ltnb.notebooks.notebooks_folder', lambda: tmp_path / 'nowhere')
    with pytest.raises(SystemExit) as e: main(['lab', str(tmp_path / 'mine')])
    err = capsys.readouterr().err
    assert e.value.code == 2 and re.search(says, err) and err.count('\n') == 1


# ---- badges

@pytest.fixture
def published(tmp_path):
    "A working copy whose settings have an address."
    for name in ('settings.ini', 'constraints.txt'): shutil.copy(ROOT / name, tmp_path)
    text = (tmp_path / 'settings.ini').read_text()
    (tmp_path / 'settings.ini').write_text(re.sub(r'^git_url =.*$', 'git_url = https://github.com/someone/ltnb', text, flags=re.M))
    (tmp_path / 'nbs').mkdir()
    shutil.copy(ROOT / 'nbs/10_collapse.ipynb', tmp_path / 'nbs')
    return tmp_path


def test_notebooks_have_the_badges_that_the_settings_ask_for():
    for path in (ROOT / 'nbs').glob('[1-4]0_*.ipynb'): assert with_badge(ROOT, path) == path.read_text(), f'{path.name}: make export'


def test_with_an_address_there_is_a_badge_and_a_cell_that_does_nothing_elsewhere(published):
    path = published / 'nbs/10_collapse.ipynb'
    plain = path.read_text()
    path.write_text(with_badge(published, path))
    cells = json.loads(path.read_text())['cells']
    badge, install = (''.join(c['source']) for c in cells[1:3])
    assert badge.startswith(BADGE) and badge.endswith('/github/someone/ltnb/blob/main/nbs/10_collapse.ipynb)') and install.startswith(INSTALL)
    assert with_badge(published, path) == path.read_text()      # and again, the same
    names = {}
    exec(install, names)    # elsewhere
    assert 'subprocess' not in names
    ran = []
    sys.modules['google.colab'] = sys
    try:
        import unittest.mock
        with unittest.mock.patch('subprocess.run', lambda command, **kwargs: ran.append(command)): exec(install, {})
    finally: del sys.modules['google.colab']
    assert f'ltnb @ git+https://github.com/someone/ltnb@v{ltnb.__version__}' in ran[0] and not [x for x in ran[0] if x.startswith('torch==')]
    shutil.copy(ROOT / 'settings.ini', published)
    if not settings(published)['git_url']: assert with_badge(published, path) == plain


def test_every_requirement_has_a_tested_version():
    pinned = pins(ROOT, settings(ROOT)['requirements'])
    assert len(pinned) == len(settings(ROOT)['requirements'].split()) - 2 and all(re.fullmatch(r'[\w-]+==[\w.]+', p) for p in pinned)


# ---- files about the project

def test_the_version_is_the_same_everywhere():
    version = settings(ROOT)['version']
    assert ltnb.__version__ == version and f'\nversion: {version}\n' in (ROOT / 'CITATION.cff').read_text()
    assert re.search(rf'^## {re.escape(version)}\b', (ROOT / 'CHANGELOG.md').read_text(), re.M)


def test_links_of_contributing_lead_somewhere():
    text = (ROOT / 'CONTRIBUTING.md').read_text()
    links = re.findall(r'\]\(([^)#]+)', text)
    assert links and [l for l in links if '://' not in l and not (ROOT / l).exists()] == []
    targets = set(re.findall(r'^([a-z]+):', (ROOT / 'Makefile').read_text(), re.M))
    assert set(re.findall(r'`make ([a-z]+)', text)) <= targets


def test_the_recipes_of_contributing_name_what_is_there():
    from ltnb import classifiers, diffusion, filtering, metrics, policies, rebalancing, sources, specs
    tables = dict(LOSSES=specs, GENERATORS=specs, CLASSIFIERS=specs, SAMPLERS=diffusion, POLICIES=policies, FILTERS=filtering,
                  METHODS=rebalancing, NETWORKS=classifiers, SPACES=metrics, EMBEDDED=sources, USUAL=sources)
    text = (ROOT / 'CONTRIBUTING.md').read_text()
    for name in set(re.findall(r'`([A-Z_]{5,})`', text)): assert isinstance(getattr(tables[name], name), dict)
    for call in re.findall(r'`ltnb\.(\w+)\.(\w+)', text): assert hasattr(__import__(f'ltnb.{call[0]}', fromlist='x'), call[1]), call


def test_the_container_s_files_are_whole():
    text = re.sub(r'^\s*//.*$', '', (ROOT / '.devcontainer/devcontainer.json').read_text(), flags=re.M)
    config = json.loads(text)
    assert (ROOT / '.devcontainer' / config['build']['dockerfile']).resolve() == (ROOT / 'Dockerfile') and 'make' in config['postCreateCommand']
    steps = [line.split()[0] for line in re.sub(r'\\\n', ' ', (ROOT / 'Dockerfile').read_text()).splitlines() if line and not line.startswith('#')]
    assert steps[0] == 'FROM' and set(steps) <= {'FROM', 'RUN', 'COPY', 'WORKDIR', 'ARG', 'ENV', 'CMD', 'USER'}
