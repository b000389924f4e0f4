//! The structures of the BAR: what reading and writing them does.

use crate::fault::GuestFault;

use super::super::common::{Effect, GENERATION};
use super::layout::{NOTIFY_STEP, Structure, locate};
use super::shared::{Registers, Shared};
use super::turns::Turn;

impl Shared {
    /// Reads the BAR at `offset`, any width.
    pub(super) fn read_bar(&self, registers: &mut Registers, offset: u64, data: &mut [u8]) {
        data.fill(0);
        let Some((structure, at)) = locate(offset, data.len()) else {
            return self.count(offset);
        };
        match structure {
            Structure::Common => {
                // Reading any other register says nothing about the configuration.
                let asks = (at..at + data.len()).contains(&GENERATION);
                let generation = if asks { registers.device.generation() } else { 0 };
                registers.common.read(at, generation, data);
            }
            Structure::Isr => {
                if let (0, [isr, ..]) = (at, data) {
                    *isr = std::mem::take(&mut registers.isr);
                }
            }
            Structure::Device => registers.device.read(at, data),
            Structure::Notify => {}
            Structure::MsixTable => registers.msix.read_table(at, data),
            Structure::MsixPending => registers.msix.read_pending(at, data),
        }
    }

    /// Writes the BAR at `offset`, any width. A turn of the worker that is returned shall be waited for.
    pub(super) fn write_bar(&self, registers: &mut Registers, offset: u64, data: &[u8]) -> Option<Turn> {
        let Some((structure, at)) = locate(offset, data.len()) else {
            self.count(offset);
            return None;
        };
        match structure {
            Structure::Common => self.write_common(registers, offset, at, data),
            Structure::Device => {
                let taken = registers.common.driver_known() && registers.device.write(at, data);
                if !taken {
                    self.count(offset);
                }
                if registers.common.driver_known() {
                    self.config_written(registers);
                }
            }
            Structure::Notify => return self.notify(offset, at),
            Structure::MsixTable => registers.msix.write_table(at, data),
            Structure::Isr | Structure::MsixPending => self.count(offset),
        }
        None
    }

    fn write_common(&self, registers: &mut Registers, offset: u64, at: usize, data: &[u8]) {
        let from = registers.common.status();
        match registers.common.write(at, data) {
            Effect::None => self.check_given(registers),
            Effect::Start => self.order(registers, |orders| orders.start = true),
            Effect::Reset => {
                self.order(registers, |orders| (orders.reset, orders.start) = (true, false));
            }
            Effect::Refused => self.count(offset),
            Effect::BadStatus => {
                let to = data.first().copied().unwrap_or(0);
                self.faults().count(GuestFault::VirtioStatus { from, to });
            }
            Effect::BadFeatures => {
                let accepted = registers.common.features();
                self.faults().count(GuestFault::VirtioFeatures { accepted });
            }
        }
    }

    /// A kick without a doorbell.
    fn notify(&self, offset: u64, at: usize) -> Option<Turn> {
        let queue = u16::try_from(at / NOTIFY_STEP as usize).unwrap_or(u16::MAX);
        let turn = self.is_awaited(queue).then(|| self.turns().ask());
        if !self.kick(queue) {
            self.count(offset);
        }
        turn
    }
}
