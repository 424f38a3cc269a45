//! Telling the receiver when packets left, once the kernel has said so.
#![forbid(unsafe_code)]

use std::time::Duration;

use crate::clock;
use crate::packet::follow_up::{self, Departed, MOST};
use crate::queue::Transmit;

/// How long after the last packet the kernel's stamps are waited for.
const PATIENCE_NS: u64 = 200_000_000;

/// What is known of packets that left and was not told yet, by flow.
#[derive(Debug)]
pub(crate) struct FollowUps {
    run: u32,
    flows: Vec<Flow>,
    new: Vec<(u16, Departed)>,
}

#[derive(Debug)]
struct Flow {
    stream: u16,
    untold: Vec<Departed>,
    messages: u64,
}

impl FollowUps {
    /// For a sender of `run` with these streams, one for each flow.
    pub(crate) fn new(run: u32, streams: &[u16]) -> Self {
        let flow = |&stream| Flow { stream, untold: Vec::new(), messages: 0 };
        Self { run, flows: streams.iter().map(flow).collect(), new: Vec::new() }
    }

    /// Messages sent on the flow at this place.
    pub(crate) fn sent(&self, place: usize) -> u64 {
        self.flows.get(place).map_or(0, |flow| flow.messages)
    }

    /// Messages sent.
    pub(crate) fn total(&self) -> u64 {
        self.flows.iter().map(|flow| flow.messages).sum()
    }

    /// Asks the queue for what is new, and tells it when there is enough for a message.
    #[inline]
    pub(crate) fn look<T: Transmit>(&mut self, queue: &mut T) {
        if queue.awaits_stamps() > 0 {
            self.collect(queue);
            self.tell(queue, MOST);
        }
    }

    /// Waits for the last stamps, and tells all that is known.
    pub(crate) fn finish<T: Transmit>(&mut self, queue: &mut T) {
        let end_ns = clock::tai_ns() + PATIENCE_NS;
        while queue.awaits_stamps() > 0 && clock::tai_ns() < end_ns {
            self.collect(queue);
            std::thread::sleep(Duration::from_millis(1));
        }
        self.tell(queue, 1);
    }

    fn collect<T: Transmit>(&mut self, queue: &mut T) {
        queue.stamps(&mut self.new);
        for (flow, departed) in self.new.drain(..) {
            if let Some(flow) = self.flows.get_mut(usize::from(flow)) {
                flow.untold.push(departed);
            }
        }
    }

    /// Sends messages on the flows that have `least` to tell of. What the queue has no room for is not told.
    fn tell<T: Transmit>(&mut self, queue: &mut T, least: usize) {
        for (flow, place) in self.flows.iter_mut().zip(0..) {
            while flow.untold.len() >= least {
                let count = flow.untold.len().min(MOST);
                let payload =
                    follow_up::written(self.run, flow.stream, &flow.untold[..count], clock::tai_ns());
                flow.untold.drain(..count);
                flow.messages += u64::from(queue.send_message(place, &payload).is_ok());
            }
        }
    }
}
