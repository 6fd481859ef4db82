"""Volume -> network -> volume."""

from medsr.inferers.forward import ForwardInferer

__all__ = ["ForwardInferer"]
