//! One client of the server: where its test is, and what comes next.
#![forbid(unsafe_code)]

use std::net::IpAddr;
use std::os::fd::AsFd;
use std::time::{Duration, Instant, SystemTime};

use nix::poll::{PollFd, PollFlags};
use socket2::Socket;

use super::House;
use crate::interop::iperf3::config::{Amount, BitrateLimit};
use crate::interop::iperf3::control::{MAX_CLIENT_RESULTS, MAX_PARAMETERS, error_message, json_message};
use crate::interop::iperf3::data::{Data, Setup};
use crate::interop::iperf3::event::{Begin, Cpu, End, Event, Parameters};
use crate::interop::iperf3::failure::{Code, Failure};
use crate::interop::iperf3::header::{HELLO, REPLY};
use crate::interop::iperf3::link::Link;
use crate::interop::iperf3::meter::Meter;
use crate::interop::iperf3::parameters::token;
use crate::interop::iperf3::results::Results;
use crate::interop::iperf3::state::State;
use crate::interop::iperf3::usage::Usage;
use crate::interop::iperf3::{COOKIE_LEN, sockets};
use crate::queue::socket::next_datagram;

/// Time for cookie and parameters.
const FIRST_WORDS: Duration = Duration::from_secs(10);

/// Time for the next hello of a test.
const NEXT_HELLO: Duration = Duration::from_secs(10);

/// Time that a test may wait for others of its address to connect their streams.
const TURN: Duration = Duration::from_secs(60);

/// Time for the client's results, and for the server's to leave.
const RESULTS: Duration = Duration::from_secs(30);

/// Time for the client's last word.
const LAST_WORD: Duration = Duration::from_secs(5);

/// Time for what was said last to arrive.
const CLOSING: Duration = Duration::from_secs(1);

/// How much longer than asked for a test may take, as in iperf3: ten changes of state over a round trip of 4 s each.
const GRACE: Duration = Duration::from_secs(40);

/// How often workers that are ending are looked at.
const ENDING: Duration = Duration::from_millis(2);

/// A cookie and its NUL.
const COOKIE: usize = COOKIE_LEN + 1;

/// Where a test is.
#[derive(Debug)]
enum Phase {
    /// The cookie is awaited.
    Cookie,
    /// The parameters are.
    Parameters,
    /// Others of the same address connect their streams.
    Queue,
    /// Hellos are awaited.
    Streams,
    /// Data flows.
    Running,
    /// Workers come to their end; then results, or the end with this failure and what the client is told of it.
    Ending(Option<(Failure, Vec<u8>)>),
    /// The client's results are awaited.
    Results,
    /// Both have the results; the client's last word is awaited.
    LastWord,
    /// What was said last has to arrive.
    Closing,
    Over,
}

/// One client.
pub(super) struct Session {
    link: Link,
    phase: Phase,
    /// By when the phase has to be over.
    deadline: Instant,
    /// 0 before it has a number.
    test: u64,
    /// Whether it counts as a test that runs.
    counted: bool,
    parameters: Option<Parameters>,
    /// Of streams that are connected.
    sockets: Vec<Socket>,
    running: Option<Running>,
    result: Result<(), Failure>,
}

/// What there is while data flows, and after.
struct Running {
    data: Data,
    meter: Meter,
    usage: Usage,
    cpu: Cpu,
    /// When something arrived last, and how much had by then.
    heard: (Instant, u64),
    /// Since when the rate is measured, and how much had been sent and received by then.
    rate: (Instant, u64),
}

impl Session {
    /// A connection that was accepted; `busy` when it is to be told that there is no room.
    pub(super) fn new(mut link: Link, now: Instant, busy: bool) -> Self {
        if busy {
            let _ = link.say_state(State::AccessDenied);
            link.shut();
        }
        Self {
            link,
            phase: if busy { Phase::Closing } else { Phase::Cookie },
            deadline: now + if busy { CLOSING } else { FIRST_WORDS },
            test: 0,
            counted: false,
            parameters: None,
            sockets: Vec::new(),
            running: None,
            result: Ok(()),
        }
    }

    pub(super) fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Over)
    }

    /// Whether it has named a test that is not over.
    pub(super) fn is_test(&self) -> bool {
        self.counted && !matches!(self.phase, Phase::Closing | Phase::Over)
    }

    /// Whether nothing is lost with it: it has named no test.
    pub(super) fn gives_way(&self) -> bool {
        !self.counted
    }

    /// Whether it has counted as a test.
    pub(super) fn is_counted(&self) -> bool {
        self.counted
    }

    /// How it ended.
    pub(super) fn result(&self) -> Result<(), Failure> {
        self.result.clone()
    }

    /// Where it comes from.
    pub(super) fn peer(&self) -> IpAddr {
        self.link.remote.ip()
    }

    /// Whether a hello from this address is for it.
    pub(super) fn awaits(&self, from: IpAddr) -> bool {
        matches!(self.phase, Phase::Streams) && from == self.peer()
    }

    /// Whether it waits for others of its address.
    pub(super) fn queues(&self) -> bool {
        matches!(self.phase, Phase::Queue)
    }

    /// When there is something to do.
    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        let next = match (&self.phase, &self.running) {
            (Phase::Running, Some(running)) => running.meter.due(),
            (Phase::Ending(_), _) => Some(now + ENDING),
            _ => None,
        };
        Some(next.map_or(self.deadline, |next| next.min(self.deadline)))
    }

    /// Adds what it waits for.
    pub(super) fn watch<'a>(&'a self, fds: &mut Vec<PollFd<'a>>) {
        let mut wanted = PollFlags::empty();
        if !matches!(self.phase, Phase::Ending(_) | Phase::Over) {
            wanted |= PollFlags::POLLIN;
        }
        if self.link.is_sending() {
            wanted |= PollFlags::POLLOUT;
        }
        // The end of a connection is told whether it is asked for or not, again and again.
        if !wanted.is_empty() {
            fds.push(PollFd::new(self.link.as_fd(), wanted));
        }
        if let (Phase::Streams, Some(last)) = (&self.phase, self.sockets.last()) {
            fds.push(PollFd::new(last.as_fd(), PollFlags::POLLIN));
        }
    }

    /// Does what can be done now.
    pub(super) fn step(&mut self, house: &mut House<'_>, now: Instant, tell: &mut dyn FnMut(Event<'_>)) {
        if let Err(failure) = self.go_on(house, now, tell) {
            let speak = !matches!(failure.code, Code::ControlClose | Code::SendMessage);
            self.fail(failure, speak, now, tell);
        }
    }

    fn go_on(
        &mut self,
        house: &mut House<'_>,
        now: Instant,
        tell: &mut dyn FnMut(Event<'_>),
    ) -> Result<(), Failure> {
        self.link.flush()?;
        match &mut self.phase {
            Phase::Cookie => {
                self.link.fill(COOKIE)?;
                let Some(cookie) = self.link.inbox.cookie()? else { return self.awaited(now) };
                if house.running >= house.most {
                    let _ = self.link.say_state(State::AccessDenied);
                    self.close(now);
                    return Ok(());
                }
                (self.test, self.counted) = (house.next, true);
                house.next += 1;
                house.running += 1;
                self.enter(Phase::Parameters, now + FIRST_WORDS);
                tell(Event::Accepted {
                    test: self.test,
                    local: self.link.local,
                    remote: self.link.remote,
                    cookie: &cookie,
                    mss: 0,
                    at: SystemTime::now(),
                });
                self.link.say_state(State::ParamExchange)
            }
            Phase::Parameters => {
                let wanted = self.link.inbox.json_wants(MAX_PARAMETERS, Code::ReceiveParameters)?;
                self.link.fill(wanted)?;
                let Some(json) = self.link.inbox.json(MAX_PARAMETERS, Code::ReceiveParameters)? else {
                    return self.awaited(now);
                };
                let parameters = check(house, &json)?;
                tell(Event::Parameters { test: self.test, parameters: &parameters });
                self.parameters = Some(parameters);
                self.enter(Phase::Queue, now + TURN);
                Ok(())
            }
            Phase::Queue => {
                self.state(now, tell)?;
                self.awaited(now)
            }
            Phase::Streams => {
                self.repeat();
                self.state(now, tell)?;
                let complete = |p: &Parameters| self.sockets.len() == p.streams();
                if matches!(self.phase, Phase::Streams) && self.parameters.as_ref().is_some_and(complete) {
                    return self.begin(house, now, tell);
                }
                match self.awaited(now) {
                    Err(failure) if failure.code == Code::NoMessage => {
                        Err(Failure::new(Code::StreamAccept).detail("no hello came for a stream"))
                    }
                    other => other,
                }
            }
            Phase::Running => {
                self.state(now, tell)?;
                self.look(house, now, tell)
            }
            Phase::Ending(_) => {
                if self.running.as_ref().is_none_or(|running| running.data.has_ended()) {
                    self.ended(now, tell);
                }
                Ok(())
            }
            Phase::Results => {
                let wanted = self.link.inbox.json_wants(MAX_CLIENT_RESULTS, Code::ReceiveResults)?;
                self.link.fill(wanted)?;
                match self.link.inbox.json(MAX_CLIENT_RESULTS, Code::ReceiveResults)? {
                    Some(json) => self.exchange(json, now, tell),
                    None => self.awaited(now),
                }
            }
            Phase::LastWord => {
                if !self.link.is_sending() {
                    self.deadline = self.deadline.min(now + LAST_WORD);
                }
                if self.link.discard() || now >= self.deadline {
                    self.phase = Phase::Over;
                }
                Ok(())
            }
            Phase::Closing => {
                if self.link.discard() || now >= self.deadline {
                    self.phase = Phase::Over;
                }
                Ok(())
            }
            Phase::Over => Ok(()),
        }
    }

    /// Nothing has come yet: is that still right?
    fn awaited(&self, now: Instant) -> Result<(), Failure> {
        if self.link.inbox.is_closed() {
            Err(Failure::new(Code::ControlClose))
        } else if now >= self.deadline {
            Err(Failure::new(Code::NoMessage))
        } else {
            Ok(())
        }
    }

    /// Reads the client's states, of which there are three: the end of the test, its own end, and its last word.
    fn state(&mut self, now: Instant, tell: &mut dyn FnMut(Event<'_>)) -> Result<(), Failure> {
        self.link.fill(1)?;
        match self.link.inbox.state()? {
            None if self.link.inbox.is_closed() => Err(Failure::new(Code::ControlClose)),
            None => Ok(()),
            Some(State::TestEnd) if matches!(self.phase, Phase::Running) => {
                if let Some(running) = &mut self.running {
                    running.data.stop();
                }
                self.enter(Phase::Ending(None), now + RESULTS);
                Ok(())
            }
            Some(State::ClientTerminate) => {
                self.fail(Failure::new(Code::ClientTerminated), false, now, tell);
                Ok(())
            }
            // A client may say this again.
            Some(State::TestStart) => Ok(()),
            Some(other) => Err(Failure::new(Code::Message).detail(format!("{other:?} out of turn"))),
        }
    }

    /// Its turn to connect streams.
    pub(super) fn create_streams(&mut self, now: Instant, tell: &mut dyn FnMut(Event<'_>)) {
        self.enter(Phase::Streams, now + NEXT_HELLO);
        if let Err(failure) = self.link.say_state(State::CreateStreams) {
            self.fail(failure, false, now, tell);
        }
    }

    /// A hello has come, and this is the stream's socket.
    pub(super) fn connect(&mut self, socket: Socket, now: Instant, tell: &mut dyn FnMut(Event<'_>)) {
        let Some(parameters) = &self.parameters else { return };
        if self.sockets.len() >= parameters.streams() {
            return;
        }
        let sends = parameters.server_sends(self.sockets.len());
        if let Err(failure) = sockets::prepare(&socket, parameters, sends) {
            return self.fail(failure, true, now, tell);
        }
        // Lost or refused, it is asked for again.
        let _ = socket.send(&REPLY);
        self.sockets.push(socket);
        self.deadline = now + NEXT_HELLO;
    }

    /// A hello that comes again has not heard the reply.
    fn repeat(&self) {
        if let Some(socket) = self.sockets.last()
            && next_datagram(socket).is_some_and(|datagram| datagram == HELLO)
        {
            let _ = socket.send(&REPLY);
        }
    }

    fn begin(
        &mut self,
        house: &House<'_>,
        now: Instant,
        tell: &mut dyn FnMut(Event<'_>),
    ) -> Result<(), Failure> {
        let Some(parameters) = &self.parameters else { return Ok(()) };
        let usage = Usage::begin();
        let mut data = Data::open(Setup {
            parameters,
            server: true,
            sockets: std::mem::take(&mut self.sockets),
            backend: house.config.backend,
            affinity: parameters.server_affinity.map(usize::from).or(house.config.affinity),
            pool: &house.pool,
            limit: None,
            duration: None,
        })?;
        data.receive();
        let begin = Begin {
            test: self.test,
            streams: data.streams.clone(),
            send_buffer: data.send_buffer,
            receive_buffer: data.receive_buffer,
            datapath: data.datapath.clone(),
            at: SystemTime::now(),
        };
        self.link.say(&[State::TestStart.byte(), State::TestRunning.byte()])?;
        data.send();
        let omit = Duration::from_secs(parameters.omit.into());
        let meter = Meter::begin(self.test, house.config.interval, omit, data.streams.len());
        let longest = match parameters.amount {
            Amount::Seconds(seconds) if seconds > 0 => {
                Some(Duration::from_secs(seconds.into()) + omit + GRACE)
            }
            _ => None,
        };
        self.running =
            Some(Running { data, meter, usage, cpu: Cpu::default(), heard: (now, 0), rate: (now, 0) });
        // A test without a time ends with its connection, whose keep-alive notices a dead client.
        self.enter(Phase::Running, now + longest.unwrap_or(Duration::from_secs(10 * 365 * 86_400)));
        tell(Event::Begin(&begin));
        Ok(())
    }

    /// Looks at what flows.
    fn look(
        &mut self,
        house: &House<'_>,
        now: Instant,
        tell: &mut dyn FnMut(Event<'_>),
    ) -> Result<(), Failure> {
        let (Phase::Running, Some(running)) = (&self.phase, &mut self.running) else { return Ok(()) };
        if let Some(interval) = running.meter.look(now, &running.data) {
            tell(Event::Interval(&interval));
        }
        if now >= self.deadline {
            return Err(Failure::new(Code::DurationExpired));
        }
        let received = running.data.received_bytes();
        if received > running.heard.1 {
            running.heard = (now, received);
        }
        let silence = now.saturating_duration_since(running.heard.0);
        if running.data.receives() && silence > house.config.receive_timeout {
            return Err(Failure::new(Code::NoMessage));
        }
        match house.config.bitrate_limit {
            Some(limit) => running.within(limit, now),
            None => Ok(()),
        }
    }

    /// The workers have ended.
    fn ended(&mut self, now: Instant, tell: &mut dyn FnMut(Event<'_>)) {
        let phase = std::mem::replace(&mut self.phase, Phase::Over);
        let Phase::Ending(why) = phase else { return };
        let mut broken = None;
        if let Some(running) = &mut self.running {
            broken = running.data.join().err();
            running.cpu = running.usage.since();
            if let Some(interval) = running.meter.end(now, &running.data.counts()) {
                tell(Event::Interval(&interval));
            }
            let refused = running.data.refused();
            if refused > 0 {
                let text = format!("this host refused to send {refused} datagrams; they count as lost");
                tell(Event::Warning { test: self.test, text: &text });
            }
            if why.is_some() || broken.is_some() {
                tell(Event::End(&running.end(self.test, None)));
            }
        }
        match why.or_else(|| broken.map(|failure| (failure.clone(), error_message(&failure)))) {
            None => {
                self.enter(Phase::Results, now + RESULTS);
                if let Err(failure) = self.link.say_state(State::ExchangeResults) {
                    self.fail(failure, false, now, tell);
                }
            }
            Some((failure, message)) => {
                let _ = self.link.say(&message);
                self.failed(failure, now, tell);
            }
        }
    }

    /// The client's results have come: ours go back.
    fn exchange(
        &mut self,
        json: serde_json::Value,
        now: Instant,
        tell: &mut dyn FnMut(Event<'_>),
    ) -> Result<(), Failure> {
        let (Some(parameters), Some(running)) = (&self.parameters, &self.running) else { return Ok(()) };
        let peer = Results::from_json(json, parameters.streams())?;
        tell(Event::End(&running.end(self.test, Some(&peer))));
        let mut output = None;
        if parameters.get_server_output {
            tell(Event::OutputWanted { test: self.test, into: &mut output });
        }
        let streams = running.meter.results(&running.data.counts());
        let own = Results { cpu: running.cpu, streams, output };
        let mut message = json_message(&own.to_json(running.data.sends()));
        message.push(State::DisplayResults.byte());
        self.enter(Phase::LastWord, now + RESULTS);
        self.link.say(&message)?;
        tell(Event::Done { test: self.test });
        Ok(())
    }

    /// The test has failed; the client is told, when `speak` says so.
    pub(super) fn fail(
        &mut self,
        failure: Failure,
        speak: bool,
        now: Instant,
        tell: &mut dyn FnMut(Event<'_>),
    ) {
        let message = if speak && self.test > 0 { error_message(&failure) } else { Vec::new() };
        match (&self.phase, &self.running) {
            (Phase::Closing | Phase::Over, _) => self.phase = Phase::Over,
            // Both had their results.
            (Phase::LastWord, _) => self.phase = Phase::Over,
            (Phase::Running, Some(running)) => {
                running.data.stop();
                self.enter(Phase::Ending(Some((failure, message))), now + RESULTS);
            }
            (Phase::Ending(None), _) => {
                self.enter(Phase::Ending(Some((failure, message))), now + RESULTS);
            }
            (Phase::Ending(Some(_)), _) => {}
            (Phase::Results, Some(running)) => {
                tell(Event::End(&running.end(self.test, None)));
                let _ = self.link.say(&message);
                self.failed(failure, now, tell);
            }
            _ => {
                let _ = self.link.say(&message);
                self.failed(failure, now, tell);
            }
        }
    }

    fn failed(&mut self, failure: Failure, now: Instant, tell: &mut dyn FnMut(Event<'_>)) {
        // A connection that never said anything is no news.
        if self.test > 0 || !self.link.inbox.is_empty() {
            tell(Event::Failed { test: self.test, failure: &failure });
        }
        self.result = Err(failure);
        self.close(now);
    }

    fn close(&mut self, now: Instant) {
        self.sockets.clear();
        self.link.shut();
        self.enter(Phase::Closing, now + CLOSING);
    }

    /// The server is stopped.
    pub(super) fn terminate(&mut self, tell: &mut dyn FnMut(Event<'_>)) {
        if !self.is_test() || matches!(self.phase, Phase::LastWord) {
            return;
        }
        let _ = self.link.say_state(State::ServerTerminate);
        let mut failure = Failure::new(Code::ServerTerminated);
        failure.interrupted = true;
        if let (Some(running), Phase::Running | Phase::Ending(_)) = (&mut self.running, &self.phase) {
            running.data.stop();
            let _ = running.data.join();
            running.cpu = running.usage.since();
            if let Some(interval) = running.meter.end(Instant::now(), &running.data.counts()) {
                tell(Event::Interval(&interval));
            }
            tell(Event::End(&running.end(self.test, None)));
        }
        tell(Event::Failed { test: self.test, failure: &failure });
        self.link.shut();
        self.link.discard();
        self.phase = Phase::Over;
    }

    fn enter(&mut self, phase: Phase, deadline: Instant) {
        self.phase = phase;
        self.deadline = deadline;
    }
}

impl Running {
    /// All figures there are.
    fn end(&self, test: u64, peer: Option<&Results>) -> End {
        let streams = self.meter.ends(&self.data.counts(), peer);
        let peer_cpu = peer.map(|results| results.cpu);
        End { test, streams, cpu: self.cpu, peer_cpu, server_output: None }
    }

    /// Whether the rate of the last while is within the limit.
    fn within(&mut self, limit: BitrateLimit, now: Instant) -> Result<(), Failure> {
        let lasted = now.saturating_duration_since(self.rate.0);
        if lasted < limit.over.max(Duration::from_millis(100)) {
            return Ok(());
        }
        let bytes: u64 = self.data.counts().iter().map(|count| count.bytes).sum();
        let rate = bytes.saturating_sub(self.rate.1) as f64 * 8.0 / lasted.as_secs_f64();
        self.rate = (now, bytes);
        if rate > limit.bits_per_second as f64 { Err(Failure::new(Code::TotalRate)) } else { Ok(()) }
    }
}

/// What a client asks for, if it may have that.
fn check(house: &House<'_>, json: &serde_json::Value) -> Result<Parameters, Failure> {
    let mut parameters = Parameters::from_json(json)?;
    if let Some(guard) = &house.guard {
        parameters.user = Some(guard.check(token(json), SystemTime::now())?);
    }
    if let Some(longest) = house.config.max_duration {
        let asked = match parameters.amount {
            Amount::Seconds(0) => None,
            Amount::Seconds(seconds) => Some(Duration::from_secs((seconds + parameters.omit).into())),
            Amount::Bytes(_) | Amount::Blocks(_) => None,
        };
        if asked.is_none_or(|asked| asked > longest) {
            return Err(Failure::new(Code::MaxDuration));
        }
    }
    let total = parameters.total_bandwidth();
    if house.config.bitrate_limit.is_some_and(|limit| total > limit.bits_per_second) {
        return Err(Failure::new(Code::TotalRate));
    }
    if let Some(cpu) = parameters.server_affinity {
        house.pool.take(Some(cpu.into()), false)?;
    }
    Ok(parameters)
}
