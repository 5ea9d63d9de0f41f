from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class PathfinderParameters:
    """What the images of one size are made with, in pixels of the final image.

    Attributes:
        size: side of the image.
        padding: width of the border that no stroke enters.
        paddle_length: length of a stroke.
        paddle_thickness: its width.
        paddle_margins: free space before and behind each stroke, and around it; an image has one of these.
        antialias: points along each side of a pixel at which the drawing is sampled.
        marker_radius: radius of the two discs.
        contour_length: paddles of a target snake.
        seed_distance: distance between the pivots of the two targets' first paddles; twice that is the least
            distance of the very first one from the border.
        continuity: how straight the snakes are: a turn by `t` has the weight `cos(min(continuity |t|,
            pi/2))^2`.
        distractor_paddles: paddles of all distractor snakes together, at most.
        snake_contrast: factor by which the coverage of a pixel by strokes is raised, up to full coverage.
        paddle_contrast: brightness of a pixel under a stroke; that of a disc is 1.
    """

    size: int
    padding: int = 1
    paddle_length: float
    paddle_thickness: float
    paddle_margins: tuple[float, ...]
    antialias: int = 2
    marker_radius: float
    contour_length: int = 14
    seed_distance: float
    continuity: float
    distractor_paddles: int
    snake_contrast: float
    paddle_contrast: float

    @property
    def distractor_length(self) -> int:
        """Paddles of a distractor snake: a third of a target's."""
        return self.contour_length // 3

    @property
    def distractors(self) -> int:
        """How many distractor snakes there are."""
        return self.distractor_paddles // self.distractor_length


# The description says nothing of: the paddles' length above 32 pixels, the seed distance at 256, the
# continuity at 128 and 256, padding, antialiasing and snake contrast above 32. There these numbers are ours.
PARAMETERS = {
    32: PathfinderParameters(
        size=32,
        paddle_length=2.0,
        paddle_thickness=0.5,
        paddle_margins=(1.0,),
        marker_radius=1.5,
        seed_distance=7.0,
        continuity=1.0,
        distractor_paddles=20,
        snake_contrast=2.0,
        paddle_contrast=0.75,
    ),
    64: PathfinderParameters(
        size=64,
        paddle_length=3.0,
        paddle_thickness=1.0,
        paddle_margins=(1.0,),
        marker_radius=2.5,
        seed_distance=12.0,
        continuity=1.8,
        distractor_paddles=22,
        snake_contrast=2.0,
        paddle_contrast=0.8,
    ),
    128: PathfinderParameters(
        size=128,
        paddle_length=5.0,
        paddle_thickness=1.5,
        paddle_margins=(2.0, 3.0),
        marker_radius=3.0,
        seed_distance=20.0,
        continuity=1.8,
        distractor_paddles=35,
        snake_contrast=2.0,
        paddle_contrast=0.9,
    ),
    256: PathfinderParameters(
        size=256,
        paddle_length=10.0,
        paddle_thickness=2.0,
        paddle_margins=(3.0,),
        marker_radius=5.0,
        seed_distance=30.0,
        continuity=1.8,
        distractor_paddles=30,
        snake_contrast=2.0,
        paddle_contrast=1.0,
    ),
}
