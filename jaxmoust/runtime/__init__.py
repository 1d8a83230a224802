"""The machine: devices, disks and clocks. Knows nothing of networks, losses or data sets."""
