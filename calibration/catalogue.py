"""All calibration routines, in the order in which a full calibration runs them."""

from __future__ import annotations

from labctl.calibration.routine import Routine
from labctl.calibration.routines.amplifier import Amplifier
from labctl.calibration.routines.attenuator import AttenuatorCurve
from labctl.calibration.routines.balance import BalanceRoutine
from labctl.calibration.routines.bias_points import BiasPoints
from labctl.calibration.routines.channel import ChannelRoutine
from labctl.calibration.routines.clearance import Clearance
from labctl.calibration.routines.clone import CloneNetGain
from labctl.calibration.routines.efficiency import ClientEfficiency, Efficiency
from labctl.calibration.routines.electronic_noise import ElectronicNoise
from labctl.calibration.routines.electronics import Electronics
from labctl.calibration.routines.half_wave_voltage import HalfWaveVoltage
from labctl.calibration.routines.linearisation import Linearisation
from labctl.calibration.routines.lo_phase import LoPhase
from labctl.calibration.routines.photon_number import PhotonNumber
from labctl.calibration.routines.rotation import RotationFidelity
from labctl.calibration.routines.shot_noise import ShotNoise

SERVERS_OWN = ("half_wave_voltage", "bias_points", "attenuator", "photon_number")
"""What a server's site measures without the client's: by meters in front of the fibre.

The others look at light that passed the client's amplifier and rotation, or at its receiver.
"""

ROUTINES: tuple[Routine, ...] = (
    Electronics(),
    HalfWaveVoltage(),
    BiasPoints(),
    Linearisation(),
    AttenuatorCurve(),
    PhotonNumber(),
    LoPhase(),
    ElectronicNoise(),
    BalanceRoutine(),
    ShotNoise(),
    Clearance(),
    Efficiency(),
    ChannelRoutine(),
    Amplifier(),
    ClientEfficiency(),
    RotationFidelity(),
    CloneNetGain(),
)
