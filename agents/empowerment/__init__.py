"""Empowerment: how much an agent's actions can do to what it will sense, in nats.

Source: Klyubin et al. 2005; Salge et al. 2013 (Gaussian channel); Karl et al. 2019 (variational).
"""

from agents.empowerment.agent import Empowered, EmpoweredConfig, train_empowered
from agents.empowerment.dynamics import Dynamics, dynamics_of, on_its_data
from agents.empowerment.exact import blahut_arimoto, sequence_channel
from agents.empowerment.gaussian import GaussianEmpowerment, Noise, water_filling
from agents.empowerment.landscape import Landscape, fit_landscape
from agents.empowerment.reward import EmpowermentReward, VectorEmpowermentReward
from agents.empowerment.sampled import SampledEmpowerment
from agents.empowerment.variational import VariationalConfig, VariationalEmpowerment

__all__ = [
    "Dynamics",
    "Empowered",
    "EmpoweredConfig",
    "EmpowermentReward",
    "GaussianEmpowerment",
    "Landscape",
    "Noise",
    "SampledEmpowerment",
    "VariationalConfig",
    "VariationalEmpowerment",
    "VectorEmpowermentReward",
    "blahut_arimoto",
    "dynamics_of",
    "fit_landscape",
    "on_its_data",
    "sequence_channel",
    "train_empowered",
    "water_filling",
]
