"""Looking inside: what heads see, whom they talk to. Pictures of it are in `crosshead.explain.pictures`."""

from crosshead.explain.maps import map_columns as map_columns
from crosshead.explain.maps import map_rows as map_rows
from crosshead.explain.maps import on_grid as on_grid
from crosshead.explain.record import record as record
