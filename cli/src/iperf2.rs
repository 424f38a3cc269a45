//! The lines of iperf 2's server, as text and as comma-separated values, in the layout of 2.1.8.

use std::collections::HashMap;
use std::fmt::Write as _;

use wirerate_engine::interop::iperf2::server::{Figures, Row, Span};
use wirerate_engine::measure::tally::StreamKey;
use wirerate_engine::sys::localtime::local_time;
use wirerate_engine::target::Target;

use crate::args::As;

const LINE: &str = "------------------------------------------------------------\n";
const HEADER: &str = "[ ID] Interval       Transfer     Bandwidth        Jitter   Lost/Total Datagrams\n";

/// Shortest end of an interval, in seconds, that a bandwidth is told of.
const SHORTEST: f64 = 0.0001;

/// Writes the lines of one run.
#[derive(Debug)]
pub struct Printer {
    form: As,
    /// iperf's numbers of the flows, in the order in which they began.
    ids: HashMap<StreamKey, usize>,
}

impl Printer {
    /// Of a run of which nothing has been told.
    pub fn new(form: As) -> Self {
        Self { form, ids: HashMap::new() }
    }

    /// What the server says when it listens, with the bytes of its receive buffer where it has one; `asked` when somebody asked for that.
    pub fn listening(
        &self,
        target: &Target,
        iface: Option<&str>,
        buffer: Option<usize>,
        asked: Option<u32>,
    ) -> String {
        if self.form == As::Iperf2Csv {
            return String::new();
        }
        let address = target.destination.ip();
        let mut text = format!("{LINE}Server listening on UDP port {}\n", target.destination.port());
        let _ = match (address.is_multicast(), target.source, iface) {
            (false, ..) => Ok(()),
            (true, None, None) => writeln!(text, "Joining multicast group  {address}"),
            (true, None, Some(name)) => writeln!(text, "Joining multicast (*,G)=*,{address} w/iface {name}"),
            (true, Some(source), None) => writeln!(text, "Joining multicast (S,G)={source},{address}"),
            (true, Some(source), Some(name)) => {
                writeln!(text, "Joining multicast (S,G)={source},{address} w/iface {name}")
            }
        };
        if let Some(bytes) = buffer {
            let said = match asked {
                None => "(default)".to_owned(),
                Some(asked) if asked as usize == bytes => String::new(),
                Some(asked) => format!("(WARNING: requested {})", quantity(f64::from(asked), BYTES)),
            };
            let line = format!("UDP buffer size: {} {said}", quantity(bytes as f64, BYTES));
            let _ = writeln!(text, "{}", line.trim_end());
        }
        text + LINE
    }

    /// The lines of `row`.
    pub fn row(&mut self, row: &Row) -> String {
        let next = self.ids.len() + 1;
        let id = *self.ids.entry(row.flow).or_insert(next);
        let mut text = String::new();
        match self.form {
            As::Iperf2 => lines(&mut text, id, row),
            As::Iperf2Csv => values(&mut text, id, row),
        }
        text
    }
}

/// Each line that figures stand for: its start and end in seconds, and the time of the next in seconds since 1970.
fn spans(figures: &Figures) -> impl Iterator<Item = (f64, f64, u64)> {
    let Figures { start_ns, end_ns, stamp_ns, lines, .. } = *figures;
    let seconds = |ns: u64| ns as f64 / 1e9;
    (0..lines).map(move |n| {
        let later = (end_ns - start_ns).saturating_mul(n);
        let at = |ns: u64| ns.saturating_add(later);
        (seconds(at(start_ns)), seconds(at(end_ns)), at(stamp_ns) / 1_000_000_000)
    })
}

fn lines(text: &mut String, id: usize, row: &Row) {
    let (flow, f) = (&row.flow, &row.figures);
    if f.span == Span::Begin {
        let (local, peer) = (flow.destination, flow.source);
        let _ = write!(
            text,
            "[{id:3}] local {} port {} connected with {} port {}\n{HEADER}",
            local.ip(),
            local.port(),
            peer.ip(),
            peer.port()
        );
        return;
    }
    for (start, end, _) in spans(f) {
        let moved = if end < SHORTEST { 0.0 } else { f.bytes as f64 };
        let _ = writeln!(
            text,
            "[{id:3}] {start:.4}-{end:.4} sec  {}s  {}s/sec  {:6.3} ms {}/{} ({}%)",
            quantity(f.bytes as f64, BYTES),
            quantity(moved * 8.0 / (end - start), BITS),
            f.jitter_ns / 1e6,
            f.lost,
            f.total,
            percent(f).map_or("-nan".to_owned(), two_digits)
        );
        if f.out_of_order > 0 {
            let _ = writeln!(
                text,
                "[{id:3}] {start:.4}-{end:.4} sec  {} datagrams received out-of-order",
                f.out_of_order
            );
        }
    }
}

fn values(text: &mut String, id: usize, row: &Row) {
    let (flow, f) = (&row.flow, &row.figures);
    if f.span == Span::Begin {
        return;
    }
    for (start, end, stamp) in spans(f) {
        let bps = if f.bytes > 0 && end > start { (f.bytes as f64 * 8.0 / (end - start)) as u64 } else { 0 };
        let _ = writeln!(
            text,
            "{},{},{},{},{},{id},{start:.1}-{end:.1},{},{bps},{:.3},{},{},{},{}",
            time(stamp),
            flow.source.ip(),
            flow.source.port(),
            flow.destination.ip(),
            flow.destination.port(),
            f.bytes,
            f.jitter_ns / 1e6,
            f.lost,
            f.total,
            percent(f).map_or("-nan".to_owned(), |percent| format!("{percent:.3}")),
            f.out_of_order
        );
    }
}

/// Lost of a hundred; `None` of nothing.
fn percent(figures: &Figures) -> Option<f64> {
    (figures.total > 0).then(|| figures.lost as f64 * 100.0 / figures.total as f64)
}

/// Local time, as 20240131235959.
fn time(seconds: u64) -> String {
    let Some(t) = i64::try_from(seconds).ok().and_then(local_time) else { return "0".repeat(14) };
    format!("{:04}{:02}{:02}{:02}{:02}{:02}", t.year, t.month, t.day, t.hour, t.minute, t.second)
}

/// A step from one unit to the next, and their names.
type Units = (f64, [&'static str; 6]);

const BYTES: Units = (1024.0, ["Byte", "KByte", "MByte", "GByte", "TByte", "PByte"]);
const BITS: Units = (1000.0, ["bit", "Kbit", "Mbit", "Gbit", "Tbit", "Pbit"]);

/// A number in the unit that makes it short, in four places.
fn quantity(number: f64, (step, units): Units) -> String {
    let (mut number, mut unit) = (number, 0);
    while number >= step && unit + 1 < units.len() {
        number /= step;
        unit += 1;
    }
    let decimals = match number {
        n if n < 0.9995 => 3,
        n if n < 9.995 => 2,
        n if n < 99.95 => 1,
        _ => 0,
    };
    // iperf divides by no time, too.
    let number = if number.is_nan() { "-nan".to_owned() } else { format!("{number:.decimals$}") };
    format!("{number:>4} {}", units[unit])
}

/// A number of at most two significant digits, as C's `%.2g` has it.
fn two_digits(number: f64) -> String {
    if number == 0.0 {
        return "0".to_owned();
    }
    let scientific = format!("{number:.1e}");
    let (digits, exponent) = scientific.split_once('e').expect("an exponent");
    let exponent: i32 = exponent.parse().expect("digits");
    let trimmed = |digits: &str| match digits.contains('.') {
        true => digits.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => digits.to_owned(),
    };
    if (-4..2).contains(&exponent) {
        trimmed(&format!("{number:.*}", (1 - exponent).max(0) as usize))
    } else {
        let sign = if exponent < 0 { '-' } else { '+' };
        format!("{}e{sign}{:02}", trimmed(digits), exponent.abs())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wirerate_engine::measure::tally::Format;

    fn row(figures: Figures) -> Row {
        let flow = StreamKey {
            format: Format::Iperf2,
            run: 0,
            stream: 0,
            source: "10.99.0.1:4000".parse().unwrap(),
            destination: "239.1.2.3:5001".parse().unwrap(),
        };
        Row { flow, figures }
    }

    /// Figures of which 2.1.8 printed what the tests expect.
    const WHOLE: Figures = Figures {
        span: Span::Whole,
        start_ns: 0,
        end_ns: 1_329_300_000,
        lines: 1,
        stamp_ns: 0,
        bytes: 2000,
        jitter_ns: 46_722_000.0,
        lost: 0,
        total: 11,
        out_of_order: 2,
    };

    #[test]
    fn lines_are_those_of_2_1_8() {
        let mut printer = Printer::new(As::Iperf2);
        assert_eq!(
            printer.row(&row(Figures { span: Span::Begin, ..WHOLE })),
            "[  1] local 239.1.2.3 port 5001 connected with 10.99.0.1 port 4000\n\
             [ ID] Interval       Transfer     Bandwidth        Jitter   Lost/Total Datagrams\n"
        );
        assert_eq!(
            printer.row(&row(WHOLE)),
            "[  1] 0.0000-1.3293 sec  1.95 KBytes  12.0 Kbits/sec  46.722 ms 0/11 (0%)\n\
             [  1] 0.0000-1.3293 sec  2 datagrams received out-of-order\n"
        );
        let silent = Figures {
            span: Span::Interval,
            start_ns: 1_000_000_000,
            end_ns: 2_000_000_000,
            lines: 2,
            bytes: 0,
            jitter_ns: 33_547_000.0,
            total: 0,
            out_of_order: 0,
            ..WHOLE
        };
        assert_eq!(
            printer.row(&row(silent)),
            "[  1] 1.0000-2.0000 sec  0.000 Bytes  0.000 bits/sec  33.547 ms 0/0 (-nan%)\n\
             [  1] 2.0000-3.0000 sec  0.000 Bytes  0.000 bits/sec  33.547 ms 0/0 (-nan%)\n"
        );
        let other = StreamKey { run: 1, ..row(WHOLE).flow };
        let second = Row { flow: other, figures: Figures { lost: 99, total: 103, out_of_order: 0, ..WHOLE } };
        assert!(
            printer.row(&second).starts_with("[  2] ") && printer.row(&second).ends_with(" 99/103 (96%)\n")
        );
    }

    #[test]
    fn values_are_those_of_2_1_8() {
        let mut printer = Printer::new(As::Iperf2Csv);
        assert_eq!(printer.row(&row(Figures { span: Span::Begin, ..WHOLE })), "");
        let text = printer.row(&row(WHOLE));
        let (time, rest) = text.split_once(',').unwrap();
        assert!(time.len() == 14 && time.bytes().all(|b| b.is_ascii_digit()));
        assert_eq!(rest, "10.99.0.1,4000,239.1.2.3,5001,1,0.0-1.3,2000,12036,46.722,0,11,0.000,2\n");
    }

    #[test]
    fn what_is_heard_of_a_server_that_listens() {
        let text = |target: &str, iface| {
            Printer::new(As::Iperf2).listening(&target.parse().unwrap(), iface, Some(212_992), None)
        };
        let between = |middle: &str| {
            format!(
                "{LINE}Server listening on UDP port 5001\n{middle}UDP buffer size:  208 KByte (default)\n{LINE}"
            )
        };
        assert_eq!(text("239.1.2.3:5001", None), between("Joining multicast group  239.1.2.3\n"));
        assert_eq!(
            text("udp://[fd99::1]@[ff35::1]:5001", Some("eth0")),
            between("Joining multicast (S,G)=fd99::1,ff35::1 w/iface eth0\n")
        );
        assert_eq!(text("10.0.0.1:5001", None), between(""));
    }

    #[test]
    fn numbers_are_those_of_c() {
        for (number, text) in [
            (0.0, "0"),
            (96.116, "96"),
            (99.7, "1e+02"),
            (100.0, "1e+02"),
            (9.96, "10"),
            (6.0, "6"),
            (0.034, "0.034"),
            (0.000_12, "0.00012"),
            (0.000_012, "1.2e-05"),
            (0.5, "0.5"),
        ] {
            assert_eq!(two_digits(number), text);
        }
        let cases =
            [(0.0, "0.000 Byte"), (400.0, " 400 Byte"), (1600.0, "1.56 KByte"), (12_345_678.0, "11.8 MByte")];
        for (number, text) in cases {
            assert_eq!(quantity(number, BYTES), text);
        }
        assert_eq!(quantity(193_236.0, BITS), " 193 Kbit");
        assert_eq!(quantity(999_600.0, BITS), "1000 Kbit");
    }
}
