//! Device models: PCI, virtio, balloon, serial, power.
