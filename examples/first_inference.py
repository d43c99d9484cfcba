"""The shortest inference: 1,000 images by the protocol at mode level, and what that leaked."""

import labctl

report = labctl.infer(1000, mean_photons=0.57, gain=1.3, sample="measured")
print(f"accuracy {report.accuracy:.1%}, run file {report.run_file}")
print(f"{report.leakage.weights_bits_prior_free:.3f} bit per weight from one query")

many = labctl.leakage(mean_photons=0.57, gain=1.3, queries=1000).together
print(f"{many.bits:.2f} bit per weight from 1,000 with the collective check")
