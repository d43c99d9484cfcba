"""Names of the environment variables that parts which do not import each other agree on."""

from __future__ import annotations

RECORD = "LABCTL_RECORD"
RECORD_BLOCKS = "LABCTL_RECORD_BLOCKS"
REPLAY = "LABCTL_REPLAY"
REPLAY_STATE = "LABCTL_REPLAY_STATE"
# Number of the run that benches simulated in this process are in: each draws new noise.
SIMULATED_RUN = "LABCTL_SIMULATED_RUN"
