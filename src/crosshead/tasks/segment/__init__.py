"""Semantic segmentation: the net, the task and the transforms."""

from crosshead.tasks.segment.figures import SegmentationFigures as SegmentationFigures
from crosshead.tasks.segment.net import Segmenter as Segmenter
from crosshead.tasks.segment.task import SegmentationTask as SegmentationTask
