"""The stage notebooks have a badge that opens them in Colab, and a cell that installs ltnb there, once settings.ini names
the address of the repository (git_url). While it is empty they have neither. `make export` sees to it."""
import json
from configparser import ConfigParser
from pathlib import Path

BADGE, INSTALL = '[![Open in Colab]', '# In Colab this installs ltnb; elsewhere it does nothing.\n'
COLAB_HAS = ('torch', 'torchvision')    # in versions that go with its GPUs


def settings(root):
    config = ConfigParser(delimiters=['='], interpolation=None)
    config.read(Path(root) / 'settings.ini', encoding='utf-8')
    return config['DEFAULT']


def pins(root, requirements):
    "The tested version of each package that ltnb needs."
    exact = dict(line.lower().split('==') for line in (Path(root) / 'constraints.txt').read_text().splitlines() if '==' in line)
    names = [r.partition('>')[0] for r in requirements.split()]
    return [f'{name}=={exact[name]}' for name in names if name not in COLAB_HAS]


def cells(root, name):
    "The two cells of a notebook, none without an address."
    cfg = settings(root)
    url = cfg['git_url'].strip().removesuffix('/')
    if not url: return []
    at = f"{url.removeprefix('https://github.com/')}/blob/{cfg['branch']}/{cfg['nbs_path']}/{name}"
    install = f"{INSTALL}import sys\nif 'google.colab' in sys.modules:\n    import subprocess\n" \
              f"    pins = {pins(root, cfg['requirements'])}\n" \
              f"    subprocess.run([sys.executable, '-m', 'pip', 'install', '-q', 'ltnb @ git+{url}@v{cfg['version']}', *pins], check=True)"
    badge = f'{BADGE}(https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/{at})'
    return [dict(cell_type='markdown', id='colab-badge', metadata={}, source=[badge]),
            dict(cell_type='code', execution_count=None, id='colab-install', metadata={}, outputs=[], source=install.splitlines(True))]


def with_badge(root, path):
    "The notebook's text, with the cells that it should have after its title."
    nb = json.loads(path.read_text(encoding='utf-8'))
    ours = lambda c: ''.join(c['source']).startswith((BADGE, INSTALL))
    first, *others = [c for c in nb['cells'] if not ours(c)]
    nb['cells'] = [first, *cells(root, path.name), *others]
    return json.dumps(nb, indent=1, ensure_ascii=False, sort_keys=True) + '\n'


if __name__ == '__main__':
    root = Path(__file__).parents[1]
    for path in sorted((root / 'nbs').glob('[1-4]0_*.ipynb')):
        text = with_badge(root, path)
        if text != path.read_text(encoding='utf-8'): path.write_text(text, encoding='utf-8')
