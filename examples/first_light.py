"""The shortest bench script: light on at a known colour and power, one reading, all left safe."""

import labctl

with labctl.simulated_station() as bench:  # your own: labctl.open_station("bench.toml")
    bench.server_laser.set_wavelength_nm(1550.0)
    bench.server_laser.set_power_dbm(10.0)
    bench.monitor.set_wavelength_nm(1550.0)
    bench.server_laser.set_emission(True)
    print(f"{1e6 * bench.monitor.power_w():.3f} uW behind the modulator")
