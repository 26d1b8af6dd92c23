"Packaging for ltnb: everything it says comes from settings.ini."
from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

here = Path(__file__).parent
config = ConfigParser(delimiters=['='], interpolation=None)
config.read(here / 'settings.ini', encoding='utf-8')
cfg = config['DEFAULT']


class BuildWithNotebooks(build_py):
    "The notebooks travel in the package, as ltnb/nbs; in git there is one copy of them."
    def run(self):
        super().run()
        if self.editable_mode: return       # they are beside the package then
        for pattern in '*.ipynb', 'images/*', 'recorded/**/*.json':
            for f in (here / 'nbs').glob(pattern):
                target = Path(self.build_lib) / 'ltnb' / 'nbs' / f.relative_to(here / 'nbs')
                self.mkpath(str(target.parent))
                self.copy_file(str(f), str(target))


setup(name=cfg['lib_name'], version=cfg['version'], description=cfg['description'], keywords=cfg['keywords'],
      author=cfg['author'], author_email=cfg['author_email'], license='Apache-2.0',
      long_description=(here / 'README.md').read_text(encoding='utf-8'), long_description_content_type='text/markdown',
      packages=find_packages(include=['ltnb', 'ltnb.*']), package_data={'ltnb': ['*.html', 'packs/*'], 'ltnb.widgets': ['*.js', '*.css']},
      cmdclass=dict(build_py=BuildWithNotebooks),
      python_requires='>=' + cfg['min_python'], install_requires=cfg['requirements'].split(),
      extras_require={k.removesuffix('_requirements'): v.split() for k, v in cfg.items() if k.endswith('_requirements')},
      entry_points=dict(console_scripts=cfg['console_scripts'].split()))
