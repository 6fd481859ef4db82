"""What formed an LR image: stated by the user, taken from headers, estimated from the image, or assumed."""

from medsr.formation.choosing import choose_formation
from medsr.formation.estimation import estimate
from medsr.formation.formation import ORIGINS, Formation
from medsr.formation.headers import AxisFormation, formation_from_header
from medsr.formation.parsing import AUTO, parse_formation

__all__ = [
    "AUTO",
    "ORIGINS",
    "AxisFormation",
    "Formation",
    "choose_formation",
    "estimate",
    "formation_from_header",
    "parse_formation",
]
