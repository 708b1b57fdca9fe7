"""The lab: kernels built here, guests booted in QEMU, commands run in them."""
