//! The client: one test against one server.
#![forbid(unsafe_code)]

mod streams;

use std::os::fd::AsFd;
use std::time::{Duration, Instant, SystemTime};

use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;

use super::config::{Amount, ClientConfig, Direction};
use super::control::{MAX_SERVER_RESULTS, json_message, new_cookie};
use super::cpus::Pool;
use super::data::{Data, Setup};
use super::event::{Begin, Cpu, End, Event, Parameters};
use super::failure::{Code, Failure};
use super::link::Link;
use super::meter::Meter;
use super::results::Results;
use super::state::State;
use super::usage::Usage;
use super::{
    Control, DEFAULT_LENGTH, MAX_BURST, MAX_LENGTH, MAX_OMIT, MAX_SECONDS, MAX_STREAMS, MIN_LENGTH, auth,
    check_interval, parameters, sockets,
};

/// The number of a client's test.
const TEST: u64 = 1;

/// Longest wait: a signal, and the end of the data, are noticed within.
const PATIENCE: Duration = Duration::from_millis(20);

/// Time for the server to answer anything but the end of the data.
const ANSWER: Duration = Duration::from_secs(60);

/// Time that the last datagrams have before the server is told that there are no more.
const ON_THEIR_WAY: Duration = Duration::from_millis(20);

/// Runs one test; see [`run`](super::run).
pub(super) fn run(
    config: &ClientConfig,
    control: &Control,
    tell: &mut dyn FnMut(Event<'_>),
) -> Result<(), Failure> {
    let result = attempt(config, control, tell);
    if let Err(failure) = &result {
        tell(Event::Failed { test: TEST, failure });
    }
    result
}

fn attempt(config: &ClientConfig, control: &Control, tell: &mut dyn FnMut(Event<'_>)) -> Result<(), Failure> {
    check(config)?;
    let pool = Pool::read()?;
    if let Some(cpu) = config.affinity {
        pool.take(Some(cpu), true)?;
    }
    tell(Event::Connecting { host: &config.host, port: config.port });
    let mut client = Client::connect(config, control, pool, tell)?;
    let result = client.test(tell);
    if let Err(failure) = &result {
        client.end_early(failure, tell);
    }
    result
}

/// The client of a test.
struct Client<'a> {
    config: &'a ClientConfig,
    control: &'a Control,
    pool: Pool,
    link: Link,
    parameters: Parameters,
    usage: Usage,
    running: Option<Running>,
    results: Option<Results>,
}

/// What there is from the streams' connection on.
struct Running {
    data: Data,
    meter: Option<Meter>,
    cpu: Cpu,
    /// Whether the server has said that data flows.
    begun: bool,
    /// Whether the server was told that it is over.
    told: bool,
    /// When something arrived last, and how much had by then.
    heard: (Instant, u64),
}

impl<'a> Client<'a> {
    fn connect(
        config: &'a ClientConfig,
        control: &'a Control,
        pool: Pool,
        tell: &mut dyn FnMut(Event<'_>),
    ) -> Result<Self, Failure> {
        let addresses = sockets::resolve(&config.host, config.port, config.family)?;
        let (device, mut failure) = (config.device.as_deref(), Failure::new(Code::Connect));
        let mut stream = None;
        // A source address decides the IP version, too.
        for address in
            addresses.into_iter().filter(|a| config.bind.is_none_or(|bind| bind.is_ipv4() == a.is_ipv4()))
        {
            match sockets::dial(address, config.bind, device, config.connect_timeout) {
                Ok(connected) => {
                    stream = Some(connected);
                    break;
                }
                Err(error) => failure = error,
            }
            if control.is_requested() {
                break;
            }
        }
        let stream = stream.ok_or(failure)?;
        let lost = |error: std::io::Error| Failure::new(Code::Connect).because(&error);
        sockets::tune_control(&stream, config.keep_alive).map_err(lost)?;
        let mss = sockets::segment_size(&stream);
        let cookie = new_cookie().map_err(|error| Failure::new(Code::SendCookie).because(&error))?;
        let mut link = Link::new(stream).map_err(lost)?;
        let mut wire = cookie.clone().into_bytes();
        wire.push(0);
        link.say(&wire)?;
        let (local, remote) = (link.local, link.remote);
        let at = SystemTime::now();
        tell(Event::Accepted { test: TEST, local, remote, cookie: &cookie, mss, at });
        let parameters = Parameters::of_client(config, length(config, mss, tell));
        Ok(Self {
            config,
            control,
            pool,
            link,
            parameters,
            usage: Usage::begin(),
            running: None,
            results: None,
        })
    }

    /// Follows the server from state to state.
    fn test(&mut self, tell: &mut dyn FnMut(Event<'_>)) -> Result<(), Failure> {
        loop {
            match self.state(tell)? {
                State::ParamExchange => {
                    let token = match &self.config.authentication {
                        Some(who) => Some(auth::token(who, SystemTime::now())?),
                        None => None,
                    };
                    self.link.say(&json_message(&self.parameters.to_json(token.as_deref())))?;
                    tell(Event::Parameters { test: TEST, parameters: &self.parameters });
                }
                State::CreateStreams => self.create_streams()?,
                State::TestStart => {
                    let running = self.running.as_mut().ok_or_else(|| out_of_turn(State::TestStart))?;
                    let omit = Duration::from_secs(self.parameters.omit.into());
                    let streams = running.data.streams.len();
                    running.meter = Some(Meter::begin(TEST, self.config.interval, omit, streams));
                    self.usage = Usage::begin();
                }
                State::TestRunning => self.begin(tell)?,
                State::ExchangeResults => self.exchange(tell)?,
                State::DisplayResults if self.results.is_some() => {
                    // Whether the server hears it changes nothing.
                    let _ = self.link.say_state(State::Done);
                    self.link.shut();
                    tell(Event::Done { test: TEST });
                    return Ok(());
                }
                State::ServerTerminate => return Err(Failure::new(Code::ServerTerminated)),
                State::AccessDenied => return Err(Failure::new(Code::AccessDenied)),
                State::ServerError => return Err(self.server_error()?),
                other => return Err(out_of_turn(other)),
            }
        }
    }

    /// The next state; while it is waited for, data flows.
    fn state(&mut self, tell: &mut dyn FnMut(Event<'_>)) -> Result<State, Failure> {
        let mut deadline = Instant::now() + ANSWER;
        loop {
            if let Some(state) = self.link.inbox.state()? {
                return Ok(state);
            }
            if self.link.inbox.is_closed() {
                return Err(Failure::new(Code::ControlClose));
            }
            if self.flows(tell)? {
                deadline = Instant::now() + ANSWER;
            }
            let due = self.running.as_ref().and_then(|running| running.meter.as_ref()?.due());
            self.wait(1, due)?;
            if Instant::now() >= deadline {
                return Err(Failure::new(Code::ReceiveMessage).detail("the server says nothing"));
            }
        }
    }

    /// Waits a moment, or until `due`, and reads what comes up to `wanted` bytes.
    fn wait(&mut self, wanted: usize, due: Option<Instant>) -> Result<(), Failure> {
        if self.control.is_requested() {
            let mut failure = Failure::new(Code::ClientTerminated);
            failure.interrupted = true;
            return Err(failure);
        }
        self.link.flush()?;
        let limit = due.map_or(PATIENCE, |due| due.saturating_duration_since(Instant::now()).min(PATIENCE));
        let mut flags = PollFlags::POLLIN;
        if self.link.is_sending() {
            flags |= PollFlags::POLLOUT;
        }
        let mut fds = [PollFd::new(self.link.as_fd(), flags)];
        match ppoll(&mut fds, Some(TimeSpec::from_duration(limit)), None) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => self.link.fill(wanted),
            Err(error) => Err(Failure::new(Code::ReceiveMessage).because(&std::io::Error::from(error))),
        }
    }

    /// What the server says is wrong.
    fn server_error(&mut self) -> Result<Failure, Failure> {
        let deadline = Instant::now() + ANSWER;
        loop {
            if let Some((code, errno)) = self.link.inbox.server_error() {
                let mut failure = Failure::new(Code::from_number(code));
                failure.errno = Some(errno).filter(|&errno| errno > 0);
                failure.reported = true;
                return Ok(failure);
            }
            if self.link.inbox.is_closed() || Instant::now() >= deadline {
                return Err(Failure::new(Code::ControlRead));
            }
            self.wait(8, None)?;
        }
    }

    /// Connects the streams and opens their queues.
    fn create_streams(&mut self) -> Result<(), Failure> {
        let sockets = streams::connect(self.config, self.control, &self.link, &self.parameters)?;
        // What is omitted is sent besides, and nobody knows how much that is.
        let limit = match self.parameters.amount {
            Amount::Bytes(bytes) if self.parameters.omit == 0 => {
                Some(bytes.div_ceil(self.parameters.length.into()))
            }
            Amount::Blocks(blocks) if self.parameters.omit == 0 => Some(blocks),
            _ => None,
        };
        let duration = match self.parameters.amount {
            Amount::Seconds(seconds) if seconds > 0 => {
                Some(Duration::from_secs((seconds + self.parameters.omit).into()))
            }
            _ => None,
        };
        let mut data = Data::open(Setup {
            parameters: &self.parameters,
            server: false,
            sockets,
            backend: self.config.backend,
            affinity: self.config.affinity,
            pool: &self.pool,
            limit,
            duration,
        })?;
        // The server's first datagrams may be here before its word that they come.
        data.receive();
        let heard = (Instant::now(), 0);
        self.running =
            Some(Running { data, meter: None, cpu: Cpu::default(), begun: false, told: false, heard });
        Ok(())
    }

    fn begin(&mut self, tell: &mut dyn FnMut(Event<'_>)) -> Result<(), Failure> {
        let running = self
            .running
            .as_mut()
            .filter(|running| running.meter.is_some())
            .ok_or_else(|| out_of_turn(State::TestRunning))?;
        running.data.send();
        running.begun = true;
        running.heard = (Instant::now(), 0);
        let data = &running.data;
        tell(Event::Begin(&Begin {
            test: TEST,
            streams: data.streams.clone(),
            send_buffer: data.send_buffer,
            receive_buffer: data.receive_buffer,
            datapath: data.datapath.clone(),
            at: SystemTime::now(),
        }));
        Ok(())
    }

    /// Looks at the data, if it flows: tells of intervals, and tells the server when it is over. Whether it flows.
    fn flows(&mut self, tell: &mut dyn FnMut(Event<'_>)) -> Result<bool, Failure> {
        let Some(running) = self.running.as_mut().filter(|running| running.begun) else { return Ok(false) };
        let Running { data, meter: Some(meter), .. } = running else { return Ok(false) };
        let now = Instant::now();
        if let Some(interval) = meter.look(now, data) {
            tell(Event::Interval(&interval));
        }
        if running.told {
            return Ok(false);
        }
        let received = data.received_bytes();
        if received > running.heard.1 {
            running.heard = (now, received);
        } else if data.receives()
            && now.saturating_duration_since(running.heard.0) > self.config.receive_timeout
        {
            return Err(Failure::new(Code::NoMessage));
        }
        if !self.parameters.is_done(meter, data) {
            return Ok(true);
        }
        data.stop_sending();
        while !data.has_sent() {
            std::thread::sleep(Duration::from_millis(1));
        }
        if !data.receives()
            && let Some(interval) = meter.end(Instant::now(), &data.counts())
        {
            tell(Event::Interval(&interval));
        }
        if data.sends() {
            std::thread::sleep(ON_THEIR_WAY);
        }
        running.told = true;
        self.link.say_state(State::TestEnd)?;
        Ok(true)
    }

    /// The server wants the results: ours go, and its own come.
    fn exchange(&mut self, tell: &mut dyn FnMut(Event<'_>)) -> Result<(), Failure> {
        let running = self
            .running
            .as_mut()
            .filter(|running| running.told)
            .ok_or_else(|| out_of_turn(State::ExchangeResults))?;
        running.finish(&self.usage, tell)?;
        let counts = running.data.counts();
        let streams = running.meter.as_ref().map(|meter| meter.results(&counts)).unwrap_or_default();
        let own = Results { cpu: running.cpu, streams, output: None };
        let sends = running.data.sends();
        self.link.say(&json_message(&own.to_json(sends)))?;
        let deadline = Instant::now() + ANSWER;
        let json = loop {
            let wanted = self.link.inbox.json_wants(MAX_SERVER_RESULTS, Code::ReceiveResults)?;
            if let Some(json) = self.link.inbox.json(MAX_SERVER_RESULTS, Code::ReceiveResults)? {
                break json;
            }
            if self.link.inbox.is_closed() {
                return Err(Failure::new(Code::ControlClose));
            }
            if Instant::now() >= deadline {
                return Err(Failure::new(Code::ReceiveResults).detail("the server sends none"));
            }
            self.wait(wanted, None)?;
        };
        let results = Results::from_json(json, self.parameters.streams())?;
        if let Some(running) = &self.running {
            tell(Event::End(&running.end(Some(&results))));
        }
        self.results = Some(results);
        Ok(())
    }

    /// The test ends without the server's results: what there is is told, and the server is told where it was this end's will.
    fn end_early(&mut self, failure: &Failure, tell: &mut dyn FnMut(Event<'_>)) {
        if failure.interrupted {
            let _ = self.link.say_state(State::ClientTerminate);
        }
        if let Some(running) = self.running.as_mut().filter(|_| self.results.is_none()) {
            let _ = running.finish(&self.usage, tell);
            tell(Event::End(&running.end(None)));
        }
        self.link.shut();
        // A connection that is closed with something unread takes back what was said last.
        self.link.discard();
    }
}

impl Running {
    /// Stops all workers and takes the last figures.
    fn finish(&mut self, usage: &Usage, tell: &mut dyn FnMut(Event<'_>)) -> Result<(), Failure> {
        self.data.stop();
        let joined = self.data.join();
        self.cpu = usage.since();
        if let Some(interval) =
            self.meter.as_mut().and_then(|meter| meter.end(Instant::now(), &self.data.counts()))
        {
            tell(Event::Interval(&interval));
        }
        let refused = self.data.refused();
        if refused > 0 {
            let text = format!("this host refused to send {refused} datagrams; they count as lost");
            tell(Event::Warning { test: TEST, text: &text });
        }
        joined
    }

    fn end(&self, peer: Option<&Results>) -> End {
        let Some(meter) = &self.meter else {
            let streams = Vec::new();
            return End { test: TEST, streams, cpu: self.cpu, peer_cpu: None, server_output: None };
        };
        let streams = meter.ends(&self.data.counts(), peer);
        let server_output = peer.and_then(|results| results.output.clone());
        End { test: TEST, streams, cpu: self.cpu, peer_cpu: peer.map(|results| results.cpu), server_output }
    }
}

impl Parameters {
    /// Whether the data is over, as the client sees it.
    fn is_done(&self, meter: &Meter, data: &Data) -> bool {
        // Senders know their own end, but for what is omitted besides.
        let sent = data.sends() && data.has_sent();
        if meter.omits() {
            return false;
        }
        let (bytes, packets) = meter.most(&data.counts(), &data.streams);
        match self.amount {
            Amount::Seconds(0) => false,
            Amount::Seconds(seconds) => {
                sent || (!data.sends() && meter.lasted() >= Duration::from_secs(seconds.into()))
            }
            Amount::Bytes(wanted) => sent || bytes >= wanted,
            Amount::Blocks(wanted) => sent || packets >= wanted,
        }
    }
}

fn out_of_turn(state: State) -> Failure {
    Failure::new(Code::Message).detail(format!("{state:?} out of turn"))
}

/// The payload of a datagram: as asked for, or what fits into a packet of the control connection.
fn length(config: &ClientConfig, mss: u32, tell: &mut dyn FnMut(Event<'_>)) -> u16 {
    let fits = u16::try_from(mss).ok().filter(|mss| (MIN_LENGTH..=MAX_LENGTH).contains(mss));
    let length = config.length.or(fits).unwrap_or(DEFAULT_LENGTH);
    if fits.is_some_and(|fits| length > fits) {
        let text =
            format!("UDP block size {length} exceeds TCP MSS {mss}, may result in fragmentation / drops");
        tell(Event::Warning { test: TEST, text: &text });
    }
    length
}

/// Refuses what is out of its range, with iperf3's numbers.
fn check(config: &ClientConfig) -> Result<(), Failure> {
    check_interval(config.interval)?;
    let refuse = |wrong: bool, code| if wrong { Err(Failure::new(code)) } else { Ok(()) };
    refuse(matches!(config.amount, Amount::Seconds(seconds) if seconds > MAX_SECONDS), Code::Duration)?;
    refuse(!(1..=MAX_STREAMS).contains(&config.parallel), Code::Streams)?;
    refuse(config.omit > MAX_OMIT, Code::Omit)?;
    refuse(config.burst > MAX_BURST, Code::Burst)?;
    refuse(config.window.is_some_and(|window| window > parameters::MAX_WINDOW), Code::BufferSize)?;
    refuse(config.flow_label.is_some_and(|label| !(1..=0xf_ffff).contains(&label)), Code::SetFlowLabel)?;
    refuse(
        config.length.is_some_and(|length| !(MIN_LENGTH..=MAX_LENGTH).contains(&length)),
        Code::UdpLength,
    )?;
    let last = config.client_port.map_or(0, u32::from)
        + u32::from(config.parallel) * if config.direction == Direction::Bidirectional { 2 } else { 1 };
    refuse(config.client_port.is_some() && last > 65_536, Code::Port)
}
