//! One test, line by line as iperf3 prints it.

use std::fmt::Write as _;
use std::net::SocketAddr;

use wirerate_engine::interop::iperf3::output::sums::{Both, Span};
use wirerate_engine::interop::iperf3::output::{Identity, Recorder};
use wirerate_engine::interop::iperf3::{
    Amount, Begin, Cpu, Direction, End, Event, Interval, Parameters, ServerOutput, Stream, Totals,
};

use super::options::Printing;
use super::units::{bitrate, bytes, percentage};

/// Between intervals, and before the summary.
const SEPARATOR: &str = "- - - - - - - - - - - - - - - - - - - - - - - - -\n";
/// Where this end sends only.
const SENDS: &str = "[ ID] Interval           Transfer     Bitrate         Total Datagrams\n";
/// Where it receives only, and of the summary.
const RECEIVES: &str =
    "[ ID] Interval           Transfer     Bitrate         Jitter    Lost/Total Datagrams\n";
/// Both ways.
const BOTH: &str =
    "[ ID][Role] Interval           Transfer     Bitrate         Jitter    Lost/Total Datagrams\n";

/// What is printed above the first test, and above each with `-V`.
pub fn banner(printing: &Printing, identity: &Identity, port: u16, next: u64) -> String {
    let line = "-----------------------------------------------------------\n";
    let versions = if printing.verbose { versions(identity) } else { String::new() };
    format!("{versions}{line}Server listening on {port} (test #{next})\n{line}")
}

/// Who this is.
pub fn versions(identity: &Identity) -> String {
    format!("{}\n{}\n", identity.version, identity.system_info)
}

/// The lines of one test.
#[derive(Debug, Clone)]
pub struct Page {
    printing: Printing,
    identity: Identity,
    host: String,
    port: u16,
    /// What was told when the control connection stood: a client prints it later.
    accepted: Accepted,
    parameters: Option<Parameters>,
    streams: Vec<Stream>,
    headed: bool,
}

#[derive(Debug, Clone, Default)]
struct Accepted {
    time: String,
    cookie: String,
    mss: u32,
}

impl Page {
    /// Of a test of which nothing has happened.
    pub fn new(printing: &Printing, identity: &Identity) -> Self {
        Self {
            printing: printing.clone(),
            identity: identity.clone(),
            host: String::new(),
            port: 0,
            accepted: Accepted::default(),
            parameters: None,
            streams: Vec::new(),
            headed: false,
        }
    }

    /// What is printed of an event, lines with their ends. `recorder` has taken note of it.
    pub fn event(&mut self, event: &Event<'_>, recorder: &Recorder) -> String {
        match event {
            Event::Connecting { host, port } => {
                (self.host, self.port) = ((*host).to_owned(), *port);
                String::new()
            }
            Event::Accepted { remote, cookie, mss, .. } => {
                let time =
                    recorder.output().start.timestamp.as_ref().map_or_else(String::new, |t| t.time.clone());
                self.accepted = Accepted { time, cookie: (*cookie).to_owned(), mss: *mss };
                if self.printing.client { String::new() } else { self.welcome(*remote) }
            }
            Event::Parameters { parameters, .. } => {
                let text = self.setting_out(parameters);
                self.parameters = Some((*parameters).clone());
                text
            }
            Event::Begin(begin) => self.begin(begin),
            Event::Interval(interval) => self.interval(interval),
            Event::End(end) => self.end(end),
            Event::Done { .. } if self.printing.client => "\niperf Done.\n".to_owned(),
            Event::Warning { text, .. } => format!("warning: {text}\n"),
            Event::Done { .. }
            | Event::Listening { .. }
            | Event::OutputWanted { .. }
            | Event::Failed { .. } => String::new(),
        }
    }

    fn welcome(&self, remote: SocketAddr) -> String {
        let mut text = String::new();
        if self.printing.verbose {
            _ = writeln!(text, "Time: {}", self.accepted.time);
        }
        let (host, port) = (remote.ip().to_canonical(), remote.port());
        _ = writeln!(text, "Accepted connection from {host}, port {port}");
        if self.printing.verbose {
            _ = writeln!(text, "      Cookie: {}", self.accepted.cookie);
        }
        text
    }

    fn setting_out(&self, parameters: &Parameters) -> String {
        let (client, verbose) = (self.printing.client, self.printing.verbose);
        let mut text = String::new();
        if client {
            if verbose {
                text += &versions(&self.identity);
                _ = writeln!(text, "Control connection MSS {}", self.accepted.mss);
                if !self.printing.length_given {
                    _ = writeln!(text, "Setting UDP block size to {}", parameters.length);
                }
                _ = writeln!(text, "Time: {}", self.accepted.time);
            }
            _ = writeln!(text, "Connecting to host {}, port {}", self.host, self.port);
            if parameters.direction == Direction::Reverse {
                _ = writeln!(text, "Reverse mode, remote host {} is sending", self.host);
            }
            if verbose {
                _ = writeln!(text, "      Cookie: {}", self.accepted.cookie);
            }
        }
        if verbose {
            _ = writeln!(text, "      Target Bitrate: {}", parameters.bandwidth);
        }
        text
    }

    fn begin(&mut self, begin: &Begin) -> String {
        self.streams.clone_from(&begin.streams);
        let mut text = String::new();
        for stream in &begin.streams {
            let (local, remote) = (stream.local.ip().to_canonical(), stream.remote.ip().to_canonical());
            _ = writeln!(
                text,
                "[{:3}] local {local} port {} connected to {remote} port {}",
                stream.socket,
                stream.local.port(),
                stream.remote.port()
            );
        }
        if let Some(p) = self.parameters.as_ref().filter(|_| self.printing.verbose) {
            let amount = match p.amount {
                Amount::Seconds(seconds) => format!("{seconds} second test"),
                Amount::Bytes(bytes) => format!("{bytes} bytes to send"),
                Amount::Blocks(blocks) => format!("{blocks} blocks to send"),
            };
            _ = writeln!(
                text,
                "Starting Test: protocol: UDP, {} streams, {} byte blocks, omitting {} seconds, {amount}, tos {}",
                p.parallel, p.length, p.omit, p.tos
            );
        }
        text
    }

    fn bidirectional(&self) -> bool {
        self.parameters.as_ref().is_some_and(|p| p.direction == Direction::Bidirectional)
    }

    /// Several streams in a direction, which are summed up.
    fn several(&self) -> bool {
        self.parameters.as_ref().is_some_and(|p| p.parallel > 1)
    }

    /// The directions in the order of their streams: whether this end sends.
    fn directions(&self) -> Vec<bool> {
        let mut senders: Vec<bool> = self.streams.iter().map(|stream| stream.sender).collect();
        senders.dedup();
        senders
    }

    /// "[TX-C]" where data goes both ways.
    fn role(&self, sender: bool) -> &'static str {
        match (self.bidirectional(), sender, self.printing.client) {
            (false, ..) => "",
            (true, true, true) => "[TX-C]",
            (true, true, false) => "[TX-S]",
            (true, false, true) => "[RX-C]",
            (true, false, false) => "[RX-S]",
        }
    }

    fn interval(&mut self, interval: &Interval) -> String {
        let mut text = String::new();
        if !self.headed {
            self.headed = true;
            text += match (self.bidirectional(), self.streams.first()) {
                (true, _) => BOTH,
                (false, Some(stream)) if stream.sender => SENDS,
                (false, _) => RECEIVES,
            };
        } else if self.several() {
            text += SEPARATOR;
        }
        for sender in self.directions() {
            for (at, stream) in self.streams.iter().enumerate().filter(|(_, s)| s.sender == sender) {
                let name = format!("{:3}", stream.socket);
                self.span(&mut text, &name, &Span::of(interval, at), sender, interval.omitted);
            }
            if self.several() {
                let sum = Span::together(interval, &self.streams, sender);
                self.span(&mut text, "SUM", &sum, sender, interval.omitted);
            }
        }
        text
    }

    fn span(&self, text: &mut String, name: &str, span: &Span, sender: bool, omitted: bool) {
        self.measure(text, name, sender, (span.start, span.end), span.bytes, span.rate());
        _ = if sender {
            // Where data goes both ways, in the column of what is lost.
            let gap = if self.bidirectional() { "          " } else { "" };
            write!(text, "{gap}{}  ", span.packets)
        } else {
            let share = percentage(span.lost_percent());
            write!(text, "{:5.3} ms  {}/{} ({share}%)  ", span.jitter * 1e3, span.lost, span.packets)
        };
        text.push_str(if omitted { "(omitted)\n" } else { "\n" });
    }

    fn measure(
        &self,
        text: &mut String,
        name: &str,
        sender: bool,
        (start, end): (f64, f64),
        size: u64,
        rate: f64,
    ) {
        let (role, size, rate) = (self.role(sender), bytes(size), bitrate(rate, self.printing.unit));
        _ = write!(text, "[{name}]{role} {start:6.2}-{end:<6.2} sec  {size}  {rate}  ");
    }

    fn end(&self, end: &End) -> String {
        let mut text = SEPARATOR.to_owned();
        if self.printing.verbose {
            text += "Test Complete. Summary Results:\n";
        }
        text += if self.bidirectional() { BOTH } else { RECEIVES };
        for sender in self.directions() {
            let streams = self.streams.iter().zip(&end.streams).filter(|(s, _)| s.sender == sender);
            for (stream, figures) in streams {
                let name = format!("{:3}", stream.socket);
                self.summary(&mut text, &name, &Both::of(stream, figures), sender, true);
            }
            if self.several() {
                let sum = Both::together(&self.streams, &end.streams, sender);
                self.summary(&mut text, "SUM", &sum, sender, false);
            }
            if sender && self.printing.verbose {
                self.cpu(&mut text, end);
            }
        }
        match &end.server_output {
            Some(ServerOutput::Text(output)) => {
                // It is another host's text, and goes to a terminal.
                let harmless =
                    |c: char| if c.is_control() && c != '\n' && c != '\t' { '\u{fffd}' } else { c };
                let output: String = output.chars().map(harmless).collect();
                _ = write!(text, "\nServer output:\n{output}\n");
            }
            Some(ServerOutput::Json(output)) => {
                let printed = wirerate_engine::interop::iperf3::output::layout::printed(output);
                _ = write!(text, "\nServer JSON output:\n{printed}\n");
            }
            None => {}
        }
        text
    }

    /// The lines of both ends, or of this one alone at a server.
    fn summary(&self, text: &mut String, name: &str, both: &Both, sender: bool, of_stream: bool) {
        let (sent, received) = both.sides();
        for of_sender in [true, false] {
            let own = of_sender == sender;
            if !self.printing.client && !own {
                if self.printing.verbose && of_stream {
                    let who = if of_sender { "sender" } else { "receiver" };
                    _ = writeln!(text, "[{name}] ({who} statistics not available)");
                }
                continue;
            }
            if of_sender {
                self.total(text, name, sender, &Totals { jitter: 0.0, lost: 0, ..sent }, "sender");
            } else {
                self.total(text, name, sender, &received, "receiver");
            }
        }
    }

    fn total(&self, text: &mut String, name: &str, sender: bool, t: &Totals, who: &str) {
        use wirerate_engine::interop::iperf3::output::sums::{percent, rate};
        self.measure(text, name, sender, (0.0, t.seconds), t.bytes, rate(t.bytes, t.seconds));
        let share = percentage(percent(t.lost, t.packets));
        _ = writeln!(text, "{:5.3} ms  {}/{} ({share}%)  {who}", t.jitter * 1e3, t.lost, t.packets);
    }

    /// After what this end sent, and of both roles where data goes both ways.
    fn cpu(&self, text: &mut String, end: &End) {
        let peer = end.peer_cpu.unwrap_or(Cpu { total: 0.0, user: 0.0, system: 0.0 });
        let shares = |cpu: &Cpu| format!("{:.1}% ({:.1}%u/{:.1}%s)", cpu.total, cpu.user, cpu.system);
        let (own, other) = (shares(&end.cpu), shares(&peer));
        _ = writeln!(text, "CPU Utilization: local/sender {own}, remote/receiver {other}");
        if self.bidirectional() {
            _ = writeln!(text, "CPU Utilization: local/receiver {own}, remote/sender {other}");
        }
    }
}
