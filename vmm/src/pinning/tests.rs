use std::sync::mpsc;
use std::thread;

use super::*;
use crate::machine::VcpuPlace;

fn info(index: u8, thread_id: i32) -> VcpuInfo {
    VcpuInfo {
        index,
        thread_id,
        place: VcpuPlace::default(),
    }
}

/// Does something with a thread that stands for a vCPU.
fn with_vcpu(action: impl FnOnce(VcpuInfo)) {
    let (end, ended) = mpsc::channel::<()>();
    let (told, tid) = mpsc::channel();
    let vcpu = thread::spawn(move || {
        told.send(rustix::thread::gettid().as_raw_nonzero().get())
            .unwrap();
        // Until the other end is gone.
        ended.recv().unwrap_err();
    });
    action(info(1, tid.recv().unwrap()));
    drop(end);
    vcpu.join().unwrap();
}

#[test]
fn a_vcpu_runs_where_it_was_pinned() {
    with_vcpu(|vcpu| {
        let all = allowed(&vcpu).unwrap();
        let one: CpuList = all.iter().last().unwrap().to_string().parse().unwrap();
        pin([(&vcpu, &one)]).unwrap();
        assert_eq!(allowed(&vcpu).unwrap(), one);
        pin([(&vcpu, &all)]).unwrap();
        assert_eq!(allowed(&vcpu).unwrap(), all);
    });
}

#[test]
fn none_is_pinned_when_one_cannot_be() {
    with_vcpu(|vcpu| {
        let all = allowed(&vcpu).unwrap();
        let one: CpuList = all.iter().next().unwrap().to_string().parse().unwrap();
        let none: CpuList = "1023".parse().unwrap();
        let error = pin([(&vcpu, &one), (&info(2, vcpu.thread_id), &none)]).unwrap_err();
        let text = error.to_string();
        assert!(
            text.starts_with("cannot run vCPU 2 on host CPU 1023: this machine has only CPUs 0"),
            "{text}"
        );
        assert_eq!(allowed(&vcpu).unwrap(), all);
    });
}
