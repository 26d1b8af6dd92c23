"""Processes killed at random moments: `make faults`, or `python tests/faults [KILLS [KIND,…]]`.

Each command runs once undisturbed. Then, KILLS times, it is started again, and at a random moment a signal is sent to a random
process of its family: half of the time SIGKILL, else SIGTERM, SIGHUP or SIGINT (which goes to the whole family, as with Ctrl-C).
Then the same command is given again. It must end, and must leave the same tensors, JSON files and packs, bit by bit, as the
undisturbed one, except for dates, seconds and the machine; the report, the manifest and lives.json are not compared.

Each kill is noted in runs/faults once its command was repeated, and the table is written again, so `make faults` can be interrupted
and resumed. Notes of other code or library versions are not counted. Training runs are short and save all the time, so that
kills hit every part of a command, and an hour on one core is enough for two hundred."""
import hashlib
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import psutil

HERE, ROOT = Path(__file__).parent, Path(__file__).parents[2]
STUDY = ['study', '--data', 'digits', '--preset', 'tiny', '--seeds', '0', '--rows', 'ce,ce+ddpm', '--out', 'out']
KINDS = dict(study=STUDY, workers=[*STUDY, '--workers', '2'], team=STUDY,
             experiment=['experiment', 'ladder', '--data', 'digits', '--preset', 'tiny', '--draws', 'ldam', '--out', 'out'],
             pack=['data', 'pack', 'x.pack', '--data', 'digits', '--full'])
LONGEST = 600       # seconds; longer is a hang
SHORT = '''
import sys
from dataclasses import replace
def short():
    from ltnb import experiments, specs, training
    from ltnb.specs import Learner, Recipe, TrainingSet
    def few(usual, **new): return lambda split, size: replace(usual(split, size), **new)
    specs.generator_settings = few(specs.generator_settings, steps=16)
    specs.classifier_settings = few(specs.classifier_settings, steps=16)
    training.train.__defaults__ = None, None, .05, 'training', None     # seconds between checkpoints
    experiments.CLASSIFIER_SEEDS = 0,
    experiments.EXPERIMENTS["ladder"] = lambda usual: {TrainingSet(): [Learner()], TrainingSet(Recipe("ddpm")): [Learner(), Learner("sau")]}
if __name__ != "__main__": short()      # a worker
else:
    from ltnb import cli
    def shortly(command): return lambda a: (short(), command(a))
    cli._study, cli._experiment = shortly(cli._study), shortly(cli._experiment)
    cli.main()
'''
COUNTS = dict(kills='kills', sigkill='of them -9', same='ended as undisturbed', different='different', failed='failed', hangs='hangs',
              tracebacks='tracebacks', processes='processes left', shared='shared memory left', temporary='temporary files left')
BAD = [k for k in COUNTS if k not in ('kills', 'sigkill', 'same')]


# ---- one command

def begin(kind, out):
    "The command, begun; what it says goes to a file."
    (out / 'go.py').write_text(SHORT)
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        port = s.getsockname()[1]
    team = ['-m', 'torch.distributed.run', '--nproc-per-node=2', f'--master-port={port}'] if kind == 'team' else []
    with open(out / 'said', 'w') as said:
        return subprocess.Popen([sys.executable, *team, 'go.py', *KINDS[kind]], cwd=out, stdout=subprocess.DEVNULL, stderr=said,
                                env=os.environ | dict(LTNB_PROGRESS='0', OMP_NUM_THREADS='1', TMPDIR=str(out.parent / 'tmp'), ACCELERATE_USE_CPU='1'))


def family(p):
    try: return [psutil.Process(p.pid), *psutil.Process(p.pid).children(recursive=True)]
    except psutil.NoSuchProcess: return []


def disturb(p, dice, after): # returns the signal, and the processes that were there
    time.sleep(after)
    there = family(p)
    number = dice.choice([signal.SIGKILL]*3 + [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
    for q in there if number == signal.SIGINT else [dice.choice(there)] if there else []:
        try: q.send_signal(number)
        except psutil.NoSuchProcess: pass
    return number, there


def end(p, there) -> dict: # of a command: whether it hung, and how many of its processes were left
    hang = False
    try: p.wait(LONGEST)
    except subprocess.TimeoutExpired: hang = True
    _, alive = psutil.wait_procs(there, timeout=0 if hang else 60)
    for q in [*alive, *family(p)]:
        try: q.kill()
        except psutil.NoSuchProcess: pass
    p.wait()
    return dict(hangs=int(hang), processes=0 if hang else len(alive))


# ---- what it has made

TIMES = {'seconds', 'train_seconds', 'samples_per_second', 'machine', 'date'}


def without_times(x):
    if isinstance(x, dict): return {k: without_times(v) for k, v in x.items() if k not in TIMES}
    return [without_times(v) for v in x] if isinstance(x, list) else x


def made(out): # file -> what is in it
    found = {}
    for p in sorted(out.rglob('*')):
        if not p.is_file() or p.name in ('go.py', 'said', '.lock', 'report.html', 'manifest.json', 'lives.json'): continue
        name = p.relative_to(out).as_posix()
        if p.suffix == '.json': found[name] = without_times(json.loads(p.read_text()))
        elif p.suffix == '.safetensors': found[name] = tensors(p)
        elif p.name == 'README.md': found[name] = re.sub(r'[\d,]+ s of training', '', p.read_text())     # a generator's card
        else: found[name] = hashlib.sha256(p.read_bytes()).hexdigest()
    return json.loads(json.dumps(found))


def tensors(path): # the header also holds how many seconds drawing took
    from safetensors import safe_open
    with safe_open(str(path), 'np') as f: return {k: hashlib.sha256(f.get_tensor(k).tobytes()).hexdigest() for k in f.keys()}


def shared(pids): # what processes of these numbers have left in shared memory
    there = Path('/dev/shm')
    return [p.name for p in there.iterdir() if {int(n) for n in re.findall(r'\d+', p.name)} & pids] if there.is_dir() else []


def traceback_of_ours(said): # torchrun has one of its own for each signal
    return 'Traceback' in said and bool(re.search(r'File ".*/ltnb/\w+\.py"', said))


# ---- all of them

def undisturbed(kind, notes):
    "What the command makes, and how long it takes: once for all."
    kept = notes / f'{kind}.json'
    if not kept.exists():
        with tempfile.TemporaryDirectory() as d:
            out = Path(d) / 'whole'
            out.mkdir(), (Path(d) / 'tmp').mkdir()
            start = time.perf_counter()
            status = begin(kind, out).wait(LONGEST)
            taken = time.perf_counter() - start
            assert status == 0, f'{kind}, undisturbed: {(out / "said").read_text()}'
            kept.write_text(json.dumps(dict(seconds=taken, made=made(out))))
    return json.loads(kept.read_text())


def once(kind, i, whole) -> dict: # what is noted of one kill
    dice = random.Random(f'{kind} {i}')
    with tempfile.TemporaryDirectory() as d:
        out = Path(d) / 'out'
        out.mkdir(), (Path(d) / 'tmp').mkdir()
        p = begin(kind, out)
        after = dice.uniform(.05, 1) * whole['seconds']
        number, there = disturb(p, dice, after)
        note, said = end(p, there), (out / 'said').read_text()
        midway = sum(q.is_file() for q in out.rglob('*')) - 2
        p = begin(kind, out)
        again, resumed = end(p, []), (out / 'said').read_text()
        found = made(out)
        differ = [k for k in sorted({*found, *whole['made']}) if found.get(k) != whole['made'].get(k)]
        ended = p.returncode == 0
        return dict(kind=kind, i=i, signal=number.name, after=round(after, 2), files_then=midway, kills=1, sigkill=int(number == signal.SIGKILL),
                    same=int(ended and not differ), different=int(ended and bool(differ)), failed=int(not ended and not again['hangs']),
                    hangs=note['hangs'] + again['hangs'], processes=note['processes'], shared=len(shared({q.pid for q in there} | {p.pid})),
                    tracebacks=traceback_of_ours(said) + ('Traceback' in resumed),
                    temporary=sum(q.name.startswith('.') and q.is_dir() for q in out.rglob('*')),
                    differ=differ[:5], said=[said, resumed])


def notes_folder():
    "Of this code and these libraries."
    code = [*sorted((ROOT / 'ltnb').rglob('*.py')), Path(__file__)]
    of = hashlib.sha256(b''.join(p.read_bytes() for p in code))
    for name in 'torch', 'diffusers', 'numpy': of.update(version(name).encode())
    path = ROOT / 'runs/faults' / of.hexdigest()[:12]
    path.mkdir(parents=True, exist_ok=True)
    return path


def table(notes):
    rows = {kind: [n for n in notes if n['kind'] == kind] for kind in KINDS}
    counts = {kind: {k: sum(n[k] for n in of) for k in COUNTS} for kind, of in rows.items()}
    counts['all'] = {k: sum(c[k] for c in counts.values()) for k in COUNTS}
    return '\n'.join(['| command | ' + ' | '.join(COUNTS.values()) + ' |', '| --- |' + ' ---: |'*len(COUNTS),
                      *(f'| {kind} | ' + ' | '.join(map(str, c.values())) + ' |' for kind, c in counts.items())])


def main():
    kills, kinds, folder = int([*sys.argv, 40][1]), sys.argv[2].split(',') if len(sys.argv) > 2 else KINDS, notes_folder()
    file = folder / 'kills.jsonl'
    notes = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    done = {(n['kind'], n['i']) for n in notes}
    for kind, i in [(kind, i) for i in range(kills) for kind in kinds]:     # in turn, so that an interrupted run has some of each
        if (kind, i) in done: continue
        note = once(kind, i, undisturbed(kind, folder))
        notes.append(note)
        with open(file, 'a') as f: f.write(json.dumps(note) + '\n')
        (HERE / 'kills.md').write_text(f'# Processes killed at random moments\n\n`python tests/faults {kills}`: what is counted is said at the head of '
                                       f'`tests/faults/__main__.py`.\n\n{table(notes)}\n')
        bad = {k: note[k] for k in BAD if note[k]}
        print(kind, i, note['signal'], f'after {note["after"]} s', 'as undisturbed' if not bad else f'{bad} {note["differ"]} {note["said"]}', flush=True)
    print(table(notes))
    bad = sum(n[k] for n in notes for k in BAD)
    sys.exit(f'{bad} ended badly (see {file})' if bad else 0)


if __name__ == '__main__': main()
