"Whether bfloat16 changes what a generator learns: DDPM and CBDM on the photographs, trained in single precision and in bfloat16 from the same seed, three draws of the long tail."
import shutil
from pathlib import Path

from benchmarks.common import DEVICE, row
from ltnb.compute import Speed, has_bf16, in_parallel
from ltnb.generators import train_generator
from ltnb.metrics import paired_difference
from ltnb.report import with_interval
from ltnb.runs import Run
from ltnb.sources import load_split
from ltnb.specs import LOSSES, Recipe

KEPT = Path('runs/precision')   # until all is measured: what is trained there is not trained again
DRAWS = 'ldam', 1, 2
WAYS = dict(fp32=Speed(), bf16=Speed(bf16=True))


def few_shot(draw, method, way):
    "Figures of the few-shot classes, on test images."
    recipe, run = Recipe(method), Run(load_split('fashion', subset=draw), KEPT / way / str(draw))
    train_generator(run.split, LOSSES[method](run.split, recipe), run.settings.of_recipe(recipe), path=run.generator_folder(recipe), speed=WAYS[way])
    return run.figures(recipe)['few']


def rows():
    if not has_bf16(DEVICE): return []
    jobs = [(draw, method, way) for way in WAYS for draw in DRAWS for method in ('ddpm', 'cbdm')]
    found, of = [], dict(zip(jobs, in_parallel(few_shot, jobs)))
    for method in 'ddpm', 'cbdm':
        for k in 'recall', 'coverage', 'class_consistency':
            plain, fast = ([of[draw, method, way][k] for draw in DRAWS] for way in WAYS)
            found.append(row(f'{method.upper()}, few-shot {k.replace("_", " ")}', '', ('fp32', sum(plain) / len(DRAWS)), ('bf16', sum(fast) / len(DRAWS)),
                             f'{with_interval(paired_difference(fast, plain, len(DRAWS)), 3)}, {len(DRAWS)} draws'))
    shutil.rmtree(KEPT)
    return found
