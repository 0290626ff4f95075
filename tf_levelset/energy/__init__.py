"""The Chan–Vese energy of probability maps, its gradient, and nothing else."""

from tf_levelset.energy.energy import level_set_energy

__all__ = ["level_set_energy"]
