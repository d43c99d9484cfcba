"""What faults do to drivers and runs on a simulated bench, measured for docs/faults.md."""
