"README.md is the notebook nbs/index.ipynb as Markdown, its code left out and its links seen from the top folder."
import re
from pathlib import Path


def readme(root):
    from nbconvert import MarkdownExporter
    text, _ = MarkdownExporter(exclude_input=True).from_filename(str(Path(root) / 'nbs/index.ipynb'))
    text = re.sub(r'\]\((\d\d_\w+\.ipynb|images/\w+\.png)\)', r'](nbs/\1)', text)
    return re.sub(r'\n{3,}', '\n\n', text).strip() + '\n'


if __name__ == '__main__':
    root = Path(__file__).parents[1]
    (root / 'README.md').write_text(readme(root), encoding='utf-8')
