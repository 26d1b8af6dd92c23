"""A release as a user gets it: the wheel installed into a fresh environment, and tried from an empty folder. What ltnb
requires is taken from the environment of this script, so that torch is not fetched again: `python tests/release.py dist`."""
import json
import os
import subprocess
import sys
import tempfile
import venv
import zipfile
from pathlib import Path

ALONE = {k: v for k, v in os.environ.items() if k != 'PYTHONPATH'} | dict(OMP_NUM_THREADS='1', LTNB_PROGRESS='0')     # of this tree, nothing


def members(wheel):
    "The files in a wheel."
    with zipfile.ZipFile(wheel) as z: return set(z.namelist())


def install(wheel, where):
    "A fresh environment with the wheel alone, beside what is installed here; returns its folder of programs."
    venv.create(where, with_pip=False, symlinks=True)
    programs = Path(where) / 'bin'
    subprocess.run([sys.executable, '-m', 'pip', '--python', programs / 'python', 'install', '--quiet', '--no-deps', wheel], check=True, env=ALONE)
    site = next(Path(where).glob('lib/python*/site-packages'))
    (site / 'others.pth').write_text(next(p for p in sys.path if p.endswith('site-packages')) + '\n')
    return programs


def try_it(programs, folder):
    "What a new user does; returns what went wrong, as (command, output)."
    commands = [['--version'], ['study', '--data', 'fashion', '--preset', 'tiny', '--rows', 'ce,ce+ddpm', '--seeds', '0'],
                ['lab', '--copy', 'mine'], ['export', 'runs/fashion-tiny', 'ce+ddpm', 'exported'],
                ['study', '--data', 'folder:exported', '--preset', 'tiny', '--rows', 'ce', '--seeds', '0', '--predict']]
    for command in commands:
        done = subprocess.run([programs / 'ltnb', *command], cwd=folder, env=ALONE, capture_output=True, text=True)
        print(f'ltnb {" ".join(command)}: {(done.stdout + done.stderr).strip().splitlines()[-1]}', flush=True)
        if done.returncode: return command, done.stdout + done.stderr
    where = subprocess.run([programs / 'python', '-c', 'import ltnb; print(ltnb.__file__)'], cwd=folder, env=ALONE, capture_output=True, text=True).stdout
    if str(programs.parent) not in where: return 'import ltnb', f'another ltnb was tried: {where}'
    for made in 'runs/fashion-tiny/report.html', 'mine/10_collapse.ipynb', 'mine/recorded/fashion/study.json', 'exported/train/boot':
        if not (folder / made).exists(): return made, 'is missing'
    if 'nbdev_export' in json.dumps(json.loads((folder / 'mine/00_core.ipynb').read_text())): return 'lab', 'a copy would export'


if __name__ == '__main__':
    dist = Path(sys.argv[1])
    (wheel,), (sdist,) = dist.glob('*.whl'), dist.glob('*.tar.gz')
    print(f'{wheel.name}: {wheel.stat().st_size / 1e6:.1f} MB, {sdist.name}: {sdist.stat().st_size / 1e6:.1f} MB')
    with tempfile.TemporaryDirectory() as d:
        (folder := Path(d) / 'empty').mkdir()
        if wrong := try_it(install(wheel, Path(d) / 'venv'), folder): sys.exit('{} does not work:\n{}'.format(*wrong))
    print('it works from an empty folder')
