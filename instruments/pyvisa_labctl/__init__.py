"""PyVISA backend discovered as `@labctl`: `pyvisa.ResourceManager("bench.toml@labctl")`."""

from labctl.instruments.simulated.visa_backend import LabctlVisaLibrary

WRAPPER_CLASS = LabctlVisaLibrary
