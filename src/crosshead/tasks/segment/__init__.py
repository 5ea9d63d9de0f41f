"""Semantic segmentation: the net, the task and the transforms."""

from crosshead.tasks.segment.measures import SegmentationFigures as SegmentationFigures
from crosshead.tasks.segment.module import Segmenter as Segmenter
from crosshead.tasks.segment.net import SegmentationNet as SegmentationNet
