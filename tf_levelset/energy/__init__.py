"""The Chan–Vese energy of probability maps, its gradient, and nothing else."""

from typing import TYPE_CHECKING

from tf_levelset.lazy import loader

if TYPE_CHECKING:
    from tf_levelset.energy.energy import level_set_energy

__all__ = ["level_set_energy"]

__getattr__ = loader(__name__, {"level_set_energy": ".energy"})
