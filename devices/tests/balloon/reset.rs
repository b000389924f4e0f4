//! Resets with work in flight: the guest writes all its memory afterwards, and what it wrote stays.

use devices::pci::PciFunction;
use devices::testing::{HugePages, anonymous_ram, open_ram};
use devices::virtio::balloon::{F_MUST_TELL_HOST, F_PAGE_REPORTING};
use memory::backend::BackendKind;
use memory::ram::Ram;

use super::rig::*;

/// How the driver goes away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Status 0 by the driver, as on unload and kexec.
    Driver,
    /// With the machine.
    Machine,
}

/// Kicks with full queues, then a reset at once; the guest writes everything; then half of it is inflated again.
fn survives(ram: &Ram, features: u64, rounds: u32) {
    let pages = u32::try_from(ram.size().bytes() / PAGE).unwrap();
    let mut rig = Rig::new(ram, features);
    for round in 0..rounds {
        let end = if round % 2 == 0 { End::Driver } else { End::Machine };
        offer_everything(&mut rig, pages);
        (0..3).for_each(|queue| rig.driver().notify(queue));
        match end {
            End::Driver => rig.driver().reset(),
            End::Machine => rig.device.reset(),
        }
        // Everything is the guest's now, whatever the device was doing.
        fill(ram, FIRST..pages);
        rig.start(features);
        let counters = rig.handle.counters();
        assert_eq!((counters.inflated, counters.partial), (0, 0), "{end:?}");
        let middle = (FIRST + pages) / 2;
        rig.inflate(FIRST..middle);
        assert_filled(ram, middle..pages);
        rig.deflate(FIRST..middle);
    }
    assert!(
        rig.faults.counts().iter().all(|(_, count)| *count == 0),
        "{:?}",
        rig.faults
    );
}

/// Fills three rings: inflates, deflates of the same pages, reports.
fn offer_everything(rig: &mut Rig<'_>, pages: u32) {
    for index in 0..16_u16 {
        let first = FIRST + 256 * u32::from(index);
        let pfns: Vec<u32> = (first..first + 256).map(|pfn| pfn.min(pages - 1)).collect();
        for queue in [INFLATE, DEFLATE] {
            let at = PFNS + PAGE * u64::from(index);
            rig.queues[queue].describe_pfns(index, at, &pfns);
            rig.queues[queue].offer(index);
        }
        let block = devices::testing::Descriptor {
            flags: 2,
            ..devices::testing::Descriptor::readable(u64::from(first) * PAGE, 256 * 4096)
        };
        let reporting = rig.reporting();
        rig.queues[reporting].describe(index, block);
        rig.queues[reporting].offer(index);
    }
}

#[test]
fn small_pages_survive_resets_with_work_in_flight() {
    let _alone = alone();
    survives(&anonymous_ram(32), F_PAGE_REPORTING, 12);
    survives(&open_ram(BackendKind::memfd(None), 32), F_PAGE_REPORTING, 12);
}

#[test]
fn huge_pages_survive_resets_with_work_in_flight() {
    let _pool = HugePages::take(16);
    survives(&huge_ram(32), F_PAGE_REPORTING | F_MUST_TELL_HOST, 12);
}
