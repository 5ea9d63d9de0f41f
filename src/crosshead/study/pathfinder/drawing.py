import numpy as np

from crosshead.study.pathfinder.parameters import PathfinderParameters
from crosshead.study.pathfinder.scene import Scene


def draw_scene(scene: Scene, parameters: PathfinderParameters) -> np.ndarray:
    """Draw contours and discs, bright on black; where they overlap, the brighter counts.

    A pixel that strokes cover to the share `c` gets `paddle_contrast min(1, snake_contrast c)`, one that a
    disc covers gets the share itself: the published contrasts are two numbers without a formula, and this
    reading keeps half-pixel strokes visible and discs the brightest.

    Returns:
        uint8, (size, size).
    """
    snakes = (*scene.targets, *scene.distractors)
    strokes = _coverage(
        np.concatenate([snake.tails for snake in snakes]),
        np.concatenate([snake.directions for snake in snakes]),
        length=parameters.paddle_length,
        radius=parameters.paddle_thickness / 2,
        parameters=parameters,
    )
    discs = _coverage(
        np.array(scene.discs),
        np.ones(2, complex),
        length=0.0,
        radius=parameters.marker_radius,
        parameters=parameters,
    )
    lines = parameters.paddle_contrast * np.minimum(1, parameters.snake_contrast * strokes)
    return np.rint(255 * np.maximum(lines, discs)).astype(np.uint8)


def _coverage(
    tails: np.ndarray,
    directions: np.ndarray,
    *,
    length: float,
    radius: float,
    parameters: PathfinderParameters,
) -> np.ndarray:
    """Share of each pixel within `radius` of a segment, (size, size), from `antialias` points along its side.

    A point stands for the square around it: across the edge of a stroke its share falls off linearly.
    """
    scale = parameters.antialias
    fine = np.zeros((parameters.size * scale,) * 2)
    # A window around each segment that holds all that it touches, on the fine grid.
    half = int(np.ceil((length / 2 + radius) * scale)) + 1
    centres = tails + directions * (length / 2)
    steps = np.arange(-half, half + 1)
    columns = np.floor(centres.real * scale).astype(int)[:, None, None] + steps
    rows = np.floor(centres.imag * scale).astype(int)[:, None, None] + steps[:, None]
    points = (columns + 0.5 + 1j * (rows + 0.5)) / scale
    offsets = points - tails[:, None, None]
    along = np.clip((offsets * directions.conj()[:, None, None]).real, 0, length)
    distances = np.abs(offsets - along * directions[:, None, None])
    shares = np.clip((radius - distances) * scale + 0.5, 0, 1)
    inside = (shares > 0) & (columns >= 0) & (columns < len(fine)) & (rows >= 0) & (rows < len(fine))
    rows, columns = np.broadcast_arrays(rows, columns)
    np.maximum.at(fine, (rows[inside], columns[inside]), shares[inside])
    return fine.reshape(parameters.size, scale, parameters.size, scale).mean((1, 3))
