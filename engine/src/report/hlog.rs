//! Latencies in HdrHistogram's log format (`.hlog`), which its viewers and libraries read: a line for each interval with all of its histogram.
#![forbid(unsafe_code)]

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use hdrhistogram::Histogram;
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, IntervalLogWriterError};

use super::{RxCollector, Warning};
use crate::error::{Error, Result};
use crate::measure::tally::latency_histogram;

/// A log that is being written. Values are ns.
///
/// As long as nobody knows whether the clocks support a latency, intervals are kept, added up; what is not known in the end is not written.
pub struct HistogramLog {
    path: PathBuf,
    file: BufWriter<File>,
    serializer: V2DeflateSerializer,
    kept: Histogram<u64>,
    /// Start of what is kept, from the start of the run.
    kept_since_ns: Option<u64>,
    broken: Option<io::Error>,
}

impl HistogramLog {
    /// Begins the file at `path`; what was there is gone.
    ///
    /// # Errors
    /// Usage: the file cannot be written.
    pub fn create(path: &Path) -> Result<Self> {
        let refuse = |e| Error::usage(format!("--hlog: cannot write {}", path.display())).because(e);
        let mut file = BufWriter::new(File::create(path).map_err(refuse)?);
        let mut serializer = V2DeflateSerializer::new();
        IntervalLogWriterBuilder::new()
            .add_comment("[one-way latency in ns, written by wirerate]")
            .with_start_time(SystemTime::now())
            .begin_log_with(&mut file, &mut serializer)
            .map_err(refuse)?;
        file.flush().map_err(refuse)?;
        let path = path.to_owned();
        Ok(Self { path, file, serializer, kept: latency_histogram(), kept_since_ns: None, broken: None })
    }

    /// Adds what `collector` has heard since its last interval, which was from `start_ns` to `end_ns` of the run.
    pub(crate) fn add(&mut self, collector: &RxCollector, start_ns: u64, end_ns: u64) {
        if self.broken.is_some() || collector.recent().is_empty() {
            return;
        }
        self.kept.add(collector.recent()).expect("all latency histograms have the same bounds");
        let since_ns = *self.kept_since_ns.get_or_insert(start_ns);
        if collector.latency_is_told() {
            self.broken = self.write(since_ns, end_ns).err();
            self.kept.reset();
            self.kept_since_ns = None;
        }
    }

    fn write(&mut self, start_ns: u64, end_ns: u64) -> io::Result<()> {
        let span = Duration::from_nanos(end_ns.saturating_sub(start_ns));
        // One that has nothing to say at its beginning: it goes on where the file ends.
        IntervalLogWriterBuilder::new()
            .begin_log_with(&mut self.file, &mut self.serializer)?
            .write_histogram(&self.kept, Duration::from_nanos(start_ns), span, None)
            .map_err(|error| match error {
                IntervalLogWriterError::IoError(error) => error,
                other => io::Error::other(format!("{other:?}")),
            })?;
        self.file.flush()
    }

    /// A warning when not all is in the file.
    pub(crate) fn finish(self, collector: &RxCollector) -> Option<Warning> {
        let path = self.path.display();
        let (text, fix) = match &self.broken {
            Some(error) => {
                (format!("--hlog: {path} is not complete: {error}"), "look for room on its file system")
            }
            None if collector.latency_is_told() || self.kept.is_empty() => return None,
            None => (
                format!("--hlog: {path} has no latencies, because the clocks support none"),
                "see the warning on clocks",
            ),
        };
        Some(Warning { code: "hlog", text, fix: Some(fix.to_owned()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Claim;
    use crate::measure::tally::{Format, RxTally, SenderClock, StreamKey, StreamTally};
    use hdrhistogram::serialization::Deserializer;
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

    const CLAIM: Claim =
        Claim { host: 1, synchronised: false, tai_offset_s: 0, estimated_error_us: 0, max_error_us: 0 };

    fn tally(claim: Option<Claim>, latencies: &[u64]) -> RxTally {
        let mut tally = RxTally::new(0);
        let source = "10.0.0.1:4000".parse().unwrap();
        let destination = "10.0.0.2:5001".parse().unwrap();
        let counters = crate::measure::tally::RxCounters { packets: 1, ..Default::default() };
        tally.streams.push(StreamTally {
            key: StreamKey { format: Format::Wirerate, run: 7, stream: 0, source, destination },
            counters,
            jitter_ns: None,
            end: None,
            announced: 0,
            ended_ns: 0,
            detail: None,
            media: None,
        });
        tally.clocks.extend(claim.map(|claim| SenderClock { source: source.ip(), run: 7, claim }));
        latencies.iter().for_each(|&latency| tally.latency.record(latency).unwrap());
        tally
    }

    fn read(path: &Path) -> Vec<(Duration, Duration, Histogram<u64>)> {
        let text = std::fs::read(path).unwrap();
        let mut all = Vec::new();
        for entry in IntervalLogIterator::new(&text) {
            if let LogEntry::Interval(line) = entry.unwrap() {
                let bytes = base64_of(line.encoded_histogram());
                let histogram = Deserializer::new().deserialize(&mut &bytes[..]).unwrap();
                all.push((line.start_timestamp(), line.duration(), histogram));
            }
        }
        all
    }

    /// RFC 4648 §4.
    fn base64_of(text: &str) -> Vec<u8> {
        const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let (mut bytes, mut bits, mut held) = (Vec::new(), 0u32, 0);
        for byte in text.bytes().filter(|&b| b != b'=') {
            bits = bits << 6 | LETTERS.iter().position(|&l| l == byte).expect("base64") as u32;
            held += 6;
            if held >= 8 {
                held -= 8;
                bytes.push((bits >> held) as u8);
            }
        }
        bytes
    }

    #[test]
    fn intervals_read_back_and_wait_until_the_clocks_are_known() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("latency.hlog");
        let mut log = HistogramLog::create(&path).unwrap();
        let mut collector = RxCollector::new();
        collector.clocks().note(Some(CLAIM));
        let mut interval = |collector: &mut RxCollector, from: u64, claim, latencies: &[u64]| {
            collector.absorb(&tally(claim, latencies));
            log.add(collector, from, from + 1_000_000_000);
            collector.interval(1_000_000_000);
        };
        interval(&mut collector, 0, None, &[100, 200]);
        assert_eq!(read(&path).len(), 0);
        interval(&mut collector, 1_000_000_000, Some(CLAIM), &[5_000_000]);
        interval(&mut collector, 2_000_000_000, Some(CLAIM), &[]);
        interval(&mut collector, 3_000_000_000, Some(CLAIM), &[7, 7, 7]);
        assert_eq!(log.finish(&collector), None);
        let [first, second] = &read(&path)[..] else { panic!("two intervals had latencies") };
        assert_eq!((first.0, first.1), (Duration::ZERO, Duration::from_secs(2)));
        assert_eq!((first.2.len(), first.2.min()), (3, 100));
        assert!(first.2.max().abs_diff(5_000_000) <= 50_000);
        assert_eq!((second.0, second.2.len(), second.2.max()), (Duration::from_secs(3), 3, 7));
    }

    #[test]
    fn what_the_clocks_do_not_support_is_not_written() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("latency.hlog");
        let mut log = HistogramLog::create(&path).unwrap();
        let mut collector = RxCollector::new();
        collector.clocks().note(Some(CLAIM));
        collector.absorb(&tally(Some(Claim { host: 2, ..CLAIM }), &[1]));
        log.add(&collector, 0, 1);
        assert_eq!(log.finish(&collector).unwrap().code, "hlog");
        assert!(read(&path).is_empty());
        assert!(HistogramLog::create(&directory.path().join("no/such/place")).is_err());
    }
}
