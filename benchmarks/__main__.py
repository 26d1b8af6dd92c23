"""What is fast, by how much, and against what: `make bench`, or `python -m benchmarks [NAME …]`.

Each benchmark runs in a process of its own and has the baseline written plainly beside what ltnb does; both are checked to compute the
same. A result is kept in results/MACHINE.json, with device, versions, date and command; names that are not run again stay as they were."""
import argparse
import datetime
import json
import os
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
BENCHMARKS = dict(step='a training step of CBDM with the papers\' U-Net', sampling='a balanced set with guidance', views="SAU's three views",
                  neighbours='precision and recall', knobs='each knob by itself', losses='a step of each method, and drawing by each policy',
                  quick='what has to be quick: importing, help, views, a filter, a forecast',
                  growth='time and memory of filters, filling, metrics and the page against classes and images; takes long',
                  precision='whether bfloat16 changes what a generator learns; half an hour', run='the whole of `make run`')
USUAL = [name for name in BENCHMARKS if name not in ('growth', 'precision', 'run')]


def times(row):
    if 'points' in row or not row['unit']: return ''    # how it grows, or how good it is, not what is faster
    before, after = row['baseline']['value'], row['ltnb']['value']
    return f"{after / before if row['unit'].endswith('/s') else before / after:.3g} ×"


def said(measured, unit):
    value = measured['value']
    return f"{measured['how']}: {f'{value:,.0f}' if value >= 100 else f'{value:.3g}'} {unit}"


def table(results):
    "The rows of a results file as a table."
    from ltnb.show import Table
    return Table(dict(what=row['what'], baseline=said(row['baseline'], row['unit']), ltnb=said(row['ltnb'], row['unit']), faster=times(row),
                      aim=row.get('aim', ''), checked=row['checked']) for rows in results['rows'].values() for row in rows)


def main():
    p = argparse.ArgumentParser(prog='python -m benchmarks', description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('names', nargs='*', metavar='NAME', help='; '.join(f'{k}: {v}' for k, v in BENCHMARKS.items()))
    p.add_argument('--out', help='default: results/MACHINE.json beside this file')
    a = p.parse_args()
    if wrong := set(a.names) - set(BENCHMARKS): p.error(f'no benchmark {", ".join(wrong)}: there are {", ".join(BENCHMARKS)}')
    from ltnb.compute import machine, versions
    from ltnb.core import save_json
    about = machine()
    out = Path(a.out or HERE / 'results' / (f"cpu-{about['cpus']}.json" if about['device'] == 'cpu' else about['device'].replace(' ', '-').lower() + '.json'))
    results = json.loads(out.read_text()) if out.exists() else dict(schema=1, rows={}, measured={})
    for name in a.names or USUAL:
        print(f'{name}: {BENCHMARKS[name]} …', end=' ', flush=True)
        start = time.perf_counter()
        done = subprocess.run([sys.executable, '-c', f'import json, benchmarks.{name} as b; print("ROWS" + json.dumps(b.rows()))'],
                              cwd=HERE.parent, stdout=subprocess.PIPE, text=True, env=dict(os.environ, LTNB_PROGRESS='0'))
        if done.returncode: sys.exit(f'benchmark {name} failed')
        results['rows'][name] = json.loads(done.stdout.rpartition('ROWS')[2])
        results['rows'] = {name: results['rows'][name] for name in BENCHMARKS if name in results['rows']}
        results['measured'][name] = dict(date=datetime.date.today().isoformat(), command=f'python -m benchmarks {name}', machine=about, versions=versions())
        save_json(out, results)
        print(f'{time.perf_counter() - start:.0f} s')
    print('', table(results)._repr_markdown_(), '', out, sep='\n')


if __name__ == '__main__': main()
