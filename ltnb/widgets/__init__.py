"Browse the tail, see what is missed, drag a filter's threshold, turn the guidance up, watch a training: by mouse, keyboard, or code."
from .base import Choice, Explorer, ImageGrid, Number, Page, View, draw_page
from .compare import TailCompare
from .drawing import DenoisingPath, GuidanceExplorer
from .filter import FilterExplorer
from .gallery import FACTS, Gallery, class_options, stand_in_gallery
from .map import TailMap
from .missed import MissedModes, TailWall
from .tail import BOTH, MARKS, SORTS, TailBrowser
from .training import TrainingMonitor
from ..show import as_svg

__all__ = ['as_svg', 'BOTH', 'Choice', 'class_options', 'DenoisingPath', 'draw_page', 'Explorer', 'FACTS',
           'FilterExplorer', 'Gallery', 'GuidanceExplorer', 'ImageGrid', 'MARKS', 'MissedModes', 'Number', 'Page', 'SORTS',
           'stand_in_gallery', 'TailBrowser', 'TailCompare', 'TailMap', 'TailWall', 'TrainingMonitor', 'View']
