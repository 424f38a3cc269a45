//! Warnings that senders and receivers share: of the link, and of the driver's interrupts.
#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::time::Duration;

use crate::host::{interface, read_number};
use crate::queue::spec::Interface;
use crate::report::Warning;

/// Notices when the link of an interface goes down in the course of a run.
#[derive(Debug)]
pub(crate) struct LinkWatch {
    interface: Option<Interface>,
    downs: Option<u32>,
}

impl LinkWatch {
    /// Begins to watch.
    pub(crate) fn begin(interface: Option<&Interface>) -> Self {
        let downs = interface.and_then(|i| interface::carrier_downs(i.index));
        Self { interface: interface.cloned(), downs }
    }

    /// A warning when the link went down since; `downtime` is how long the kernel refused to work for that reason.
    pub(crate) fn warning(&self, downtime: Duration) -> Option<Warning> {
        let interface = self.interface.as_ref()?;
        let downs = interface::carrier_downs(interface.index).zip(self.downs);
        link_down(&interface.name, downs.map_or(0, |(now, then)| now.wrapping_sub(then)), downtime)
    }
}

fn link_down(name: &str, times: u32, downtime: Duration) -> Option<Warning> {
    if times == 0 && downtime.is_zero() {
        return None;
    }
    let times = match times {
        0 => "the interface was down".to_owned(),
        1 => "the link went down once".to_owned(),
        n => format!("the link went down {n} times"),
    };
    let long = if downtime.is_zero() {
        String::new()
    } else {
        format!(", for {} ms as far as the queue was told", downtime.as_millis().max(1))
    };
    Some(Warning {
        code: "link-down",
        text: format!("{name}: {times} during the run{long}: what was under way is lost, late or refused"),
        fix: Some(format!("see dmesg, and ip -s link show dev {name}, for the reason")),
    })
}

/// A warning when interrupts come between busy polls: without a deferral each of them takes the driver's work away from the worker.
pub(crate) fn interrupts_between_polls(interface: &Interface) -> Option<Warning> {
    let directory = PathBuf::from("/sys/class/net").join(&interface.name);
    // /sys may be mounted for another network namespace.
    if read_number(directory.join("ifindex")) != Some(interface.index) {
        return None;
    }
    let is_zero = |file: &str| read_number::<u64>(directory.join(file)) == Some(0);
    let (defer, flush) = (is_zero("napi_defer_hard_irqs"), is_zero("gro_flush_timeout"));
    let name = &interface.name;
    (defer || flush).then(|| Warning {
        code: "busy-poll",
        text: format!("{name}: busy polling without deferred interrupts gains little: the driver is woken in between"),
        fix: Some(format!(
            "echo 2 > /sys/class/net/{name}/napi_defer_hard_irqs; echo 200000 > /sys/class/net/{name}/gro_flush_timeout"
        )),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_that_went_down_is_said() {
        assert_eq!(link_down("va", 0, Duration::ZERO), None);
        let once = link_down("va", 1, Duration::from_millis(312)).unwrap();
        assert_eq!(once.code, "link-down");
        assert!(
            once.text.starts_with("va: the link went down once during the run, for 312 ms"),
            "{}",
            once.text
        );
        let unknown = link_down("va", 0, Duration::from_micros(1)).unwrap();
        assert!(unknown.text.contains("was down during the run, for 1 ms"), "{}", unknown.text);
        assert!(link_down("va", 3, Duration::ZERO).unwrap().text.contains("down 3 times during the run: "));
    }
}
