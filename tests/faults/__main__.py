"""Kill -9 at random moments: `make faults`, or `python tests/faults [KILLS]`.

Each command runs once undisturbed. Then, KILLS times in turn, it is begun anew, one process of its family is killed at a random
moment, what is left is killed too where it does not end by itself, and the same command is given again until it ends. What it has
made then must be what the undisturbed one made, byte by byte but for times of day, seconds and how often it was tried."""
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

HERE, DATA = Path(__file__).parent, ['--data', 'digits']
KINDS = dict(
    study=['study', *DATA, '--preset', 'tiny', '--seeds', '0', '--rows', 'ce,ce+ddpm,sau', '--generators', 'ddpm,cbdm'],
    workers=['study', *DATA, '--preset', 'tiny', '--seeds', '0', '--rows', 'ce,ce+ddpm,sau', '--generators', 'ddpm,t2h', '--workers', '2'],
    experiment=['experiment', 'ladder', *DATA, '--preset', 'tiny', '--draws', 'ldam'],
    pack=['data', 'pack', 'x.pack', *DATA, '--full'])
LONGEST = 600       # seconds; longer is a hang
SHORT = '''
import sys
from ltnb import experiments as e
from ltnb.specs import Recipe, TrainingSet, Learner
e.EXPERIMENTS["ladder"] = lambda usual: {TrainingSet(): [Learner()], TrainingSet(Recipe("ddpm")): [Learner(), Learner("sau")]}
if __name__ == "__main__":
    from ltnb.cli import main
    main(sys.argv[1:])
'''


def begin(kind, out):
    where = [] if kind == 'pack' else ['--out', 'out']
    (out / 'go.py').write_text(SHORT)
    return subprocess.Popen([sys.executable, 'go.py', *KINDS[kind], *where], cwd=out, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                            env=os.environ | dict(LTNB_PROGRESS='0', OMP_NUM_THREADS='1'))


def finish(kind, out): # what it said, whether it ended in time and well
    p = begin(kind, out)
    try: said = p.communicate(timeout=LONGEST)[1]
    except subprocess.TimeoutExpired:
        p.kill()
        return '', 'hang'
    return said, 'ended' if p.returncode == 0 else 'failed'


TIMES = {'seconds', 'train_seconds', 'samples_per_second', 'machine', 'losses', 'date'}


def without_times(x):
    if isinstance(x, dict): return {k: without_times(v) for k, v in x.items() if k not in TIMES}
    return [without_times(v) for v in x] if isinstance(x, list) else x


def made(out): # file -> what is in it
    found = {}
    for p in sorted(out.rglob('*')):
        if not p.is_file() or p.name in ('go.py', '.lock', 'report.html', 'manifest.json') or '.damaged' in str(p): continue
        name = p.relative_to(out).as_posix()
        if p.suffix == '.json': found[name] = without_times(json.loads(p.read_text()))
        elif p.suffix == '.safetensors': found[name] = tensors(p)
        else: found[name] = hashlib.sha256(p.read_bytes()).hexdigest()
    return found


def tensors(path): # the header also holds how many seconds drawing took
    from safetensors import safe_open
    with safe_open(str(path), 'np') as f: return {k: hashlib.sha256(f.get_tensor(k).tobytes()).hexdigest() for k in f.keys()}


def family(p):
    try: return [psutil.Process(p.pid), *psutil.Process(p.pid).children(recursive=True)]
    except psutil.NoSuchProcess: return []


def kill_once(kind, out, after, dice):
    "Begin, and kill one process of the family after some seconds; returns what was left alive a minute later."
    p = begin(kind, out)
    time.sleep(after)
    there = family(p)
    if there:
        try: dice.choice(there).kill()
        except psutil.NoSuchProcess: pass
    try: p.communicate(timeout=60)
    except subprocess.TimeoutExpired: pass
    _, alive = psutil.wait_procs(there, timeout=30)
    for q in alive: q.kill()
    return len(alive)


def run(kills, seed=0):
    dice, rows = random.Random(seed), {}
    for kind in KINDS:
        rows[kind] = dict(kills=0, ended_as_undisturbed=0, different=0, failed=0, hangs=0, tracebacks=0, processes_left=0)
        with tempfile.TemporaryDirectory() as d:
            whole = Path(d) / 'whole'
            whole.mkdir()
            start = time.perf_counter()
            said, end = finish(kind, whole)
            taken, expected = time.perf_counter() - start, made(whole)
            assert end == 'ended', f'{kind}, undisturbed: {said}'
            for i in range(kills):
                out, row = Path(d) / str(i), rows[kind]
                out.mkdir()
                for _ in range(dice.choice((1, 1, 2))): row['processes_left'] += kill_once(kind, out, dice.uniform(.2, 1.) * taken, dice)
                said, end = finish(kind, out)
                same = made(out) == expected
                row['kills'] += 1
                row['ended_as_undisturbed'] += end == 'ended' and same
                row['different'] += end == 'ended' and not same
                row['failed'] += end == 'failed'
                row['hangs'] += end == 'hang'
                row['tracebacks'] += 'Traceback' in said
                print(kind, i, end, 'as undisturbed' if same else [k for k in {*expected, *made(out)} if expected.get(k) != made(out).get(k)][:5], said[-300:], flush=True)
                shutil.rmtree(out)
    return rows


def main():
    kills = int(sys.argv[1]) if len(sys.argv) > 1 else 50
    rows = run(kills)
    head = list(next(iter(rows.values())))
    lines = [f'Kill -9 at random moments, {kills} times each: `python tests/faults {kills}`.', '',
             '| command | ' + ' | '.join(k.replace('_', ' ') for k in head) + ' |', '| --- |' + ' ---: |'*len(head),
             *(f'| {kind} | ' + ' | '.join(str(row[k]) for k in head) + ' |' for kind, row in rows.items())]
    (HERE / 'kills.md').write_text('\n'.join(lines) + '\n')
    print('\n'.join(lines))
    bad = sum(row[k] for row in rows.values() for k in ('different', 'failed', 'hangs', 'tracebacks', 'processes_left'))
    sys.exit(f'{bad} ended badly' if bad else 0)


if __name__ == '__main__': main()
