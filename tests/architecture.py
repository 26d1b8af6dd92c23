"The package as it is: which module imports which, drawn for the README and checked."
import ast
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parents[1]


def modules(root=ROOT) -> dict:
    "Name of each module, the widgets' as one -> those of the package that it imports, anywhere in it."
    found = {}
    for path in sorted((root / 'ltnb').rglob('*.py')):
        package = path.relative_to(root / 'ltnb').parts
        if package[-1].startswith('_'): continue
        found.setdefault(package[0].removesuffix('.py'), set()).update(imported(path, len(package)))
    return {name: sorted(others & found.keys() - {name}) for name, others in found.items()}


def imported(path, depth):
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.ImportFrom): continue
        if node.level == depth: names = (node.module or '').split('.')
        elif node.level == 0 and (node.module or '').startswith('ltnb.'): names = node.module.split('.')[1:]
        else: continue
        yield names[0]


def reduced(graph) -> dict:
    "The graph without arrows that a longer way stands for."
    below = {}
    for name in TopologicalSorter(graph).static_order():
        below[name] = set().union(*({other} | below[other] for other in graph[name]))
    return {name: [o for o in others if not any(o in below[p] for p in others)] for name, others in graph.items()}


def picture(root=ROOT) -> str:
    "The graph in Mermaid's language, which GitHub and JupyterLab draw. An arrow points to what is imported."
    graph = reduced(modules(root))
    arrows = [f'  {name} --> {other}' for name in graph for other in graph[name]]
    return '\n'.join(['```mermaid', 'graph TD', *arrows, '```'])
