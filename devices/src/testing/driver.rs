//! A driver for virtio-pci devices, as strict or as wicked as a test wants it.

use memory::ram::Ram;
use vm_memory::{Bytes, GuestAddress};

use crate::pci::PciFunction;
use crate::virtio::common::QueueRegisters;
use crate::virtio::pci::VirtioPci;
use crate::virtio::queue::VirtQueue;
use crate::virtio::{F_VERSION_1, Memory};

use super::wait_for;

const DEVICE: u64 = 0x2000;
const NOTIFY: u64 = 0x3000;
const TABLE: u64 = 0x4000;

const DEVICE_FEATURE_SELECT: u64 = 0x00;
const DEVICE_FEATURE: u64 = 0x04;
const DRIVER_FEATURE_SELECT: u64 = 0x08;
const DRIVER_FEATURE: u64 = 0x0c;
const CONFIG_VECTOR: u64 = 0x10;
const STATUS: u64 = 0x14;
const GENERATION: u64 = 0x15;
const QUEUE_SELECT: u64 = 0x16;
const QUEUE_SIZE: u64 = 0x18;
const QUEUE_VECTOR: u64 = 0x1a;
const QUEUE_ENABLE: u64 = 0x1c;
const QUEUE_RINGS: [u64; 3] = [0x20, 0x28, 0x30];

/// The registers of a device, as a driver accesses them.
#[derive(Debug)]
pub struct Driver<'a> {
    /// The device driven.
    pub device: &'a VirtioPci,
}

impl<'a> Driver<'a> {
    /// A driver that has done nothing yet.
    pub fn new(device: &'a VirtioPci) -> Driver<'a> {
        Driver { device }
    }

    /// Reads a register of up to 8 bytes in the BAR.
    pub fn read(&self, offset: u64, width: usize) -> u64 {
        let mut data = [0; 8];
        self.device.bar_read(offset, &mut data[..width]);
        u64::from_le_bytes(data)
    }

    /// Writes a register of up to 8 bytes in the BAR.
    pub fn write(&self, offset: u64, width: usize, value: u64) {
        let _ = self.device.bar_write(offset, &value.to_le_bytes()[..width]);
    }

    /// Reads four bytes of configuration space.
    pub fn config_read(&self, offset: u16) -> u32 {
        let mut data = [0; 4];
        self.device.config_read(offset, &mut data);
        u32::from_le_bytes(data)
    }

    /// Writes up to four bytes of configuration space.
    pub fn config_write(&self, offset: u16, width: usize, value: u32) {
        let _ = self.device.config_write(offset, &value.to_le_bytes()[..width]);
    }

    /// Switches memory decoding on or off.
    pub fn set_memory_enabled(&self, enabled: bool) {
        self.config_write(4, 2, if enabled { 0x6 } else { 0x4 });
    }

    /// Offset of the capability of kind `id`, for vendor capabilities of virtio type `kind`.
    pub fn capability(&self, id: u8, kind: Option<u8>) -> Option<u16> {
        let mut at = self.config_read(0x34) & 0xff;
        for _ in 0..48 {
            if at == 0 {
                return None;
            }
            let offset = u16::try_from(at).unwrap();
            let [found, next, _, cfg_type] = self.config_read(offset).to_le_bytes();
            if found == id && kind.is_none_or(|kind| kind == cfg_type) {
                return Some(offset);
            }
            at = next.into();
        }
        panic!("the capability list has no end");
    }

    /// Switches MSI-X on with every vector unmasked; vector `n` sends data `0x40 + n`.
    pub fn enable_msix(&self, vectors: u64) {
        for vector in 0..vectors {
            self.write(TABLE + 16 * vector, 8, 0xfee0_0000);
            self.write(TABLE + 16 * vector + 8, 8, 0x40 + vector);
        }
        let msix = self.capability(0x11, None).expect("MSI-X capability");
        self.config_write(msix + 2, 2, 0x8000);
    }

    /// The status.
    pub fn status(&self) -> u8 {
        u8::try_from(self.read(STATUS, 1)).unwrap()
    }

    /// Writes the status.
    pub fn set_status(&self, status: u8) {
        self.write(STATUS, 1, status.into());
    }

    /// Writes status 0 and waits until it reads 0.
    pub fn reset(&self) {
        self.set_status(0);
        wait_for("the reset", || self.status() == 0);
    }

    /// The features offered.
    pub fn offered(&self) -> u64 {
        let half = |select| {
            self.write(DEVICE_FEATURE_SELECT, 4, select);
            self.read(DEVICE_FEATURE, 4)
        };
        half(0) | half(1) << 32
    }

    /// Resets the device and goes to FEATURES_OK, accepting `features` and VERSION_1. Returns the status then.
    pub fn negotiate(&self, features: u64) -> u8 {
        self.reset();
        self.set_status(1);
        self.set_status(3);
        for select in 0..2 {
            self.write(DRIVER_FEATURE_SELECT, 4, select);
            self.write(
                DRIVER_FEATURE,
                4,
                (features | F_VERSION_1) >> (32 * select) & 0xffff_ffff,
            );
        }
        self.set_status(11);
        self.status()
    }

    /// Describes `queue` as number `index` with interrupt `vector`, and enables it.
    pub fn set_queue(&self, index: u16, queue: &DriverQueue<'_>, vector: u16) {
        self.write(QUEUE_SELECT, 2, index.into());
        self.write(QUEUE_SIZE, 2, queue.size.into());
        self.write(QUEUE_VECTOR, 2, vector.into());
        for (register, ring) in QUEUE_RINGS.into_iter().zip(queue.rings()) {
            self.write(register, 4, ring & 0xffff_ffff);
            self.write(register + 4, 4, ring >> 32);
        }
        self.write(QUEUE_ENABLE, 2, 1);
    }

    /// The selected queue's size, enable flag and ring addresses, after selecting `index`.
    pub fn queue_registers(&self, index: u16) -> (u64, u64, [u64; 3]) {
        self.write(QUEUE_SELECT, 2, index.into());
        let rings = QUEUE_RINGS.map(|register| self.read(register, 8));
        (self.read(QUEUE_SIZE, 2), self.read(QUEUE_ENABLE, 2), rings)
    }

    /// Sends configuration changes to interrupt `vector`.
    pub fn set_config_vector(&self, vector: u16) {
        self.write(CONFIG_VECTOR, 2, vector.into());
    }

    /// Takes the device into use with `features` and `queues`; queue `n` has vector `n + 1`, configuration 0.
    pub fn start(&self, features: u64, queues: &[&DriverQueue<'_>]) {
        assert_eq!(self.negotiate(features), 11, "the features were not accepted");
        self.set_config_vector(0);
        for (index, queue) in (0..).zip(queues) {
            self.set_queue(index, queue, index + 1);
        }
        self.set_status(15);
    }

    /// Kicks queue `index` by a register write.
    pub fn notify(&self, index: u16) {
        self.write(NOTIFY + 4 * u64::from(index), 2, index.into());
    }

    /// Four bytes of device configuration.
    pub fn device_config(&self, offset: u64) -> u32 {
        u32::try_from(self.read(DEVICE + offset, 4)).unwrap()
    }

    /// Writes four bytes of device configuration.
    pub fn set_device_config(&self, offset: u64, value: u32) {
        self.write(DEVICE + offset, 4, value.into());
    }

    /// The configuration's generation.
    pub fn generation(&self) -> u64 {
        self.read(GENERATION, 1)
    }
}

/// One descriptor: guest address, length, flags (1 next, 2 write, 4 indirect), next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// Guest address of the buffer.
    pub address: u64,
    /// Its length in bytes.
    pub length: u32,
    /// Flags.
    pub flags: u16,
    /// Index of the next descriptor.
    pub next: u16,
}

impl Descriptor {
    /// A device-readable buffer on its own.
    pub fn readable(address: u64, length: u32) -> Descriptor {
        Descriptor {
            address,
            length,
            flags: 0,
            next: 0,
        }
    }

    /// A device-writable buffer on its own.
    pub fn writable(address: u64, length: u32) -> Descriptor {
        Descriptor {
            flags: 2,
            ..Descriptor::readable(address, length)
        }
    }

    /// The same, with descriptor `next` to follow.
    pub fn then(self, next: u16) -> Descriptor {
        Descriptor {
            flags: self.flags | 1,
            next,
            ..self
        }
    }
}

/// The driver's side of a split virtqueue in guest RAM: 16 bytes a descriptor, then the rings, as in virtio 1.2, §2.7.
#[derive(Debug)]
pub struct DriverQueue<'a> {
    memory: &'a Memory,
    base: u64,
    /// Number of descriptors.
    pub size: u16,
    /// The next index of the available ring.
    pub available: u16,
    /// How far the used ring has been looked at.
    used: u16,
}

impl<'a> DriverQueue<'a> {
    /// An empty queue at guest address `base`; takes `26 * size + 16` bytes at most.
    pub fn new(ram: &'a Ram, base: u64, size: u16) -> DriverQueue<'a> {
        let queue = DriverQueue {
            memory: ram.memory(),
            base,
            size,
            available: 0,
            used: 0,
        };
        queue
            .memory
            .write_slice(&vec![0; 26 * usize::from(size) + 16], GuestAddress(base))
            .unwrap();
        queue
    }

    /// Guest addresses of descriptor table, available ring, used ring.
    pub fn rings(&self) -> [u64; 3] {
        let size = u64::from(self.size);
        let available = self.base + 16 * size;
        [
            self.base,
            available,
            (available + 6 + 2 * size).next_multiple_of(4),
        ]
    }

    /// The device's side of the queue, number `index`, as a driver with `features` sets it up.
    pub(crate) fn device_side(&self, index: u16, features: u64) -> VirtQueue {
        let registers = QueueRegisters {
            max_size: self.size,
            size: self.size,
            enabled: true,
            vector: 0,
            rings: self.rings(),
        };
        VirtQueue::new(index, &registers, features, self.memory).unwrap()
    }

    fn put<T: vm_memory::ByteValued>(&self, value: T, address: u64) {
        self.memory.write_obj(value, GuestAddress(address)).unwrap();
    }

    fn get<T: vm_memory::ByteValued>(&self, address: u64) -> T {
        self.memory.read_obj(GuestAddress(address)).unwrap()
    }

    /// Writes descriptor `index`.
    pub fn describe(&self, index: u16, descriptor: Descriptor) {
        let at = self.base + 16 * u64::from(index);
        self.put(descriptor.address.to_le(), at);
        self.put(descriptor.length.to_le(), at + 8);
        self.put(descriptor.flags.to_le(), at + 12);
        self.put(descriptor.next.to_le(), at + 14);
    }

    /// Makes the chain that begins at `head` available.
    pub fn offer(&mut self, head: u16) {
        let ring = self.rings()[1];
        self.put(head.to_le(), ring + 4 + 2 * u64::from(self.available % self.size));
        self.set_available(self.available.wrapping_add(1));
    }

    /// Writes the available ring's index, whatever is in the ring.
    pub fn set_available(&mut self, index: u16) {
        self.available = index;
        self.put(index.to_le(), self.rings()[1] + 2);
    }

    /// The available ring's index as it is in guest RAM.
    pub fn available_index(&self) -> u16 {
        u16::from_le(self.get(self.rings()[1] + 2))
    }

    /// Where the device shall interrupt next, with EVENT_IDX.
    pub fn set_used_event(&self, index: u16) {
        self.put(index.to_le(), self.rings()[1] + 4 + 2 * u64::from(self.size));
    }

    /// The used ring's index.
    pub fn used_index(&self) -> u16 {
        u16::from_le(self.get(self.rings()[2] + 2))
    }

    /// Head and length of every chain returned since the last call.
    pub fn take_used(&mut self) -> Vec<(u32, u32)> {
        let index = self.used_index();
        let mut chains = Vec::new();
        while self.used != index {
            let at = self.rings()[2] + 4 + 8 * u64::from(self.used % self.size);
            chains.push((u32::from_le(self.get(at)), u32::from_le(self.get(at + 4))));
            self.used = self.used.wrapping_add(1);
        }
        chains
    }

    /// Writes page numbers at guest address `address` and describes them in descriptor `index`.
    pub fn describe_pfns(&self, index: u16, address: u64, pfns: &[u32]) {
        let bytes: Vec<u8> = pfns.iter().flat_map(|pfn| pfn.to_le_bytes()).collect();
        self.memory.write_slice(&bytes, GuestAddress(address)).unwrap();
        self.describe(
            index,
            Descriptor::readable(address, u32::try_from(bytes.len()).unwrap()),
        );
    }
}
