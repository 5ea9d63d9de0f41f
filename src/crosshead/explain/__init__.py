"""Looking inside: what heads see, whom they talk to, and whether it is true.

Pictures of it are in `crosshead.explain.pictures`.
"""

from crosshead.explain.call import LayerCall as LayerCall
from crosshead.explain.cells import landmark_cells as landmark_cells
from crosshead.explain.diversity import HeadDiversity as HeadDiversity
from crosshead.explain.diversity import head_diversity as head_diversity
from crosshead.explain.faithfulness import PatchCurve as PatchCurve
from crosshead.explain.faithfulness import deletion as deletion
from crosshead.explain.faithfulness import insertion as insertion
from crosshead.explain.interaction import Interaction as Interaction
from crosshead.explain.interaction import between_heads as between_heads
from crosshead.explain.interaction import through_other_heads as through_other_heads
from crosshead.explain.knockout import knock_out as knock_out
from crosshead.explain.landmarks import Listening as Listening
from crosshead.explain.landmarks import landmark_readers as landmark_readers
from crosshead.explain.landmarks import landmark_sources as landmark_sources
from crosshead.explain.landmarks import listening as listening
from crosshead.explain.layers import attention_layers as attention_layers
from crosshead.explain.maps import map_columns as map_columns
from crosshead.explain.maps import map_rows as map_rows
from crosshead.explain.maps import on_grid as on_grid
from crosshead.explain.mixing import MixingMatrices as MixingMatrices
from crosshead.explain.mixing import mixing_matrices as mixing_matrices
from crosshead.explain.record import record as record
from crosshead.explain.recording import Recording as Recording
from crosshead.explain.relevance import layer_relevance as layer_relevance
from crosshead.explain.relevance import relevance as relevance
from crosshead.explain.rollout import rollout as rollout
from crosshead.explain.sanity import rank_correlation as rank_correlation
from crosshead.explain.sanity import shuffled_weights as shuffled_weights
