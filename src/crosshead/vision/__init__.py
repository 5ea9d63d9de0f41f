"""Vision backbones around interactive attention; importing this package registers them with timm."""

from crosshead import _extras

with _extras.needs_extra("vision", "crosshead.vision"):
    from crosshead.vision import linearized as linearized
    from crosshead.vision import variants as variants
    from crosshead.vision.footprint import Footprint as Footprint
    from crosshead.vision.footprint import footprint as footprint
    from crosshead.vision.isotropic import IsotropicViT as IsotropicViT
    from crosshead.vision.ivit import IViT as IViT
    from crosshead.vision.swap import swap_attention as swap_attention
