//! Where io_uring is refused, as container runtimes do, it is said why, and the other socket backend works.

use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, apply_filter};
use wirerate_engine::Kind;
use wirerate_engine::profile::payload::Payload;
use wirerate_engine::profile::segments::Segments;
use wirerate_engine::queue::socket::{MmsgRx, MmsgTx, UringRx, UringTx, available};
use wirerate_engine::queue::{
    Flow, Receive, Run, RxMeta, RxSpec, Sink, Stamper, Transmit, Tuning, TxSpec, Wait,
};

struct Count(usize);

impl Sink for Count {
    fn run(&mut self, _: &RxMeta, _: &[u8], _: usize, count: usize) {
        self.0 += count;
    }
}

/// Makes io_uring_setup fail in the calling thread.
fn refuse_io_uring(errno: i32) {
    let filter = SeccompFilter::new(
        BTreeMap::from([(libc::SYS_io_uring_setup, vec![])]),
        SeccompAction::Allow,
        SeccompAction::Errno(errno.unsigned_abs()),
        std::env::consts::ARCH.try_into().unwrap(),
    )
    .unwrap();
    apply_filter(&BpfProgram::try_from(filter).unwrap()).unwrap();
}

fn specs() -> (TxSpec, RxSpec) {
    let port = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let destination = SocketAddr::from(([127, 0, 0, 1], port));
    let flow =
        Flow { stream: 0, source: SocketAddr::from(([0, 0, 0, 0], 0)), destination, destination_mac: [0; 6] };
    let tx = TxSpec {
        interface: None,
        queue: 0,
        flows: vec![flow],
        ttl: 1,
        dscp: 0,
        fragment: false,
        vlan: None,
        rtp: None,
        iperf2: false,
        payload: Arc::new(Payload::Zero),
        max_payload: 100,
        segments: Segments::Auto,
        txtime: None,
        tuning: Tuning::default(),
    };
    let target = destination.to_string().parse().unwrap();
    (
        tx,
        RxSpec {
            interface: None,
            queue: 0,
            target,
            groups: 1,
            max_payload: 100,
            segments: Segments::Auto,
            nic_clock: None,
            tuning: Tuning::default(),
        },
    )
}

fn refused(errno: i32, says: &str) {
    refuse_io_uring(errno);
    let reason = available().unwrap_err();
    assert!(reason.contains(says), "{reason}");
    let (tx, rx) = specs();
    for error in [UringTx::open(&tx).err().unwrap(), UringRx::open(&rx).err().unwrap()] {
        assert_eq!(error.kind, Kind::Environment);
        assert!(error.what.contains(says), "{error}");
        assert!(error.fix.unwrap().contains("mmsg"));
    }
    let mut receiver = MmsgRx::open(&rx).unwrap();
    let mut sender = MmsgTx::open(&tx).unwrap();
    let run = Run { flow: 0, len: 100, count: 50, first_seq: 0 };
    assert_eq!(sender.submit(&[run], &mut Stamper::new(1)).unwrap(), 50);
    assert_eq!(sender.reap(Wait::No).unwrap().packets, 50);
    let mut count = Count(0);
    while count.0 < 50 {
        assert!(receiver.poll(&mut count, Wait::For(Duration::from_secs(10))).unwrap() > 0);
    }
}

#[test]
fn a_filter_that_says_not_permitted() {
    refused(libc::EPERM, "security policy");
}

#[test]
fn a_filter_that_says_no_such_call() {
    refused(libc::ENOSYS, "not in this kernel");
}
