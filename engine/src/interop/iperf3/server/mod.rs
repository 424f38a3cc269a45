//! The server: one thread for all control connections, which never waits for any of them.
//!
//! What a stranger can make it do is bounded. Connections that have not named a test are few and time out; tests are as many as the configuration allows; a message
//! has a longest length; a stream is connected only to the address that its control connection comes from, and to the port that a hello came from; everything has a
//! time by which it has to be over.
#![forbid(unsafe_code)]

mod hello;
mod session;

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;
use socket2::Socket;

use super::auth::Guard;
use super::config::ServerConfig;
use super::cpus::Pool;
use super::event::Event;
use super::failure::{Code, Failure};
use super::link::Link;
use super::{Control, check_interval, sockets};
use hello::Hellos;
use session::Session;

/// Connections beside those of tests: they have not named one yet, or are being closed.
const MOST_OTHERS: usize = 64;

/// Connections accepted in one round, so that others are looked at between.
const AT_ONCE: usize = 16;

/// Longest wait: a signal is noticed within.
const PATIENCE: Duration = Duration::from_millis(100);

/// What sessions share.
pub(super) struct House<'a> {
    pub(super) config: &'a ServerConfig,
    pub(super) guard: Option<Guard>,
    pub(super) pool: Pool,
    /// Most tests at once.
    pub(super) most: usize,
    /// Tests that run.
    pub(super) running: usize,
    /// The number of the next test.
    pub(super) next: u64,
}

struct Server<'a> {
    house: House<'a>,
    listeners: Vec<Socket>,
    hellos: Vec<Hellos>,
    sessions: Vec<Session>,
    address: SocketAddr,
    /// Since when no test has run.
    idle: Instant,
}

/// Serves tests; see [`serve`](super::serve).
pub(super) fn serve(
    config: &ServerConfig,
    control: &Control,
    tell: &mut dyn FnMut(Event<'_>),
) -> Result<(), Failure> {
    check_interval(config.interval)?;
    let guard = config.authentication.as_ref().map(Guard::new).transpose()?;
    let pool = Pool::read()?;
    if let Some(cpu) = config.affinity {
        pool.take(Some(cpu), false)?;
    }
    let most = if config.one_off { 1 } else { usize::from(config.max_tests.max(1)) };
    let house = House { config, guard, pool, most, running: 0, next: 1 };
    let mut server = Server::open(house)?;
    tell(Event::Listening { address: server.address, next: server.house.next });
    loop {
        if control.is_requested() {
            server.terminate(tell);
            return Ok(());
        }
        server.wait()?;
        let now = Instant::now();
        server.accept(now);
        server.hear(now, tell);
        if let Some(result) = server.step(now, tell) {
            return result;
        }
    }
}

impl<'a> Server<'a> {
    fn open(house: House<'a>) -> Result<Self, Failure> {
        let config = house.config;
        let device = config.device.as_deref();
        let (mut listeners, mut hellos, mut failure) = (Vec::new(), Vec::new(), None);
        let mut address: Option<SocketAddr> = None;
        for mut wanted in sockets::listening(config.bind, config.family, config.port) {
            // A port that the kernel chose is that of both.
            if let Some(first) = address {
                wanted.set_port(first.port());
            }
            // An IPv4-only machine has the other.
            let opened = sockets::listener(wanted, device).and_then(|listener| {
                let bound = listener.local_addr()?.as_socket().unwrap_or(wanted);
                Ok((listener, bound, Hellos::open(bound, device)?))
            });
            match opened {
                Ok((listener, bound, hello)) => {
                    address = address.or(Some(bound));
                    listeners.push(listener);
                    hellos.push(hello);
                }
                Err(error) => failure = Some(error),
            }
        }
        let refused = |error: &io::Error| match (device, error.raw_os_error()) {
            (Some(_), Some(libc::ENODEV | libc::EPERM)) => Failure::new(Code::BindDevice).because(error),
            _ => Failure::new(Code::Listen).because(error),
        };
        let absent = |error: &io::Error| {
            matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL))
        };
        match (address, failure) {
            (Some(address), failure) if failure.as_ref().is_none_or(absent) => {
                Ok(Self { house, listeners, hellos, sessions: Vec::new(), address, idle: Instant::now() })
            }
            (_, Some(error)) => Err(refused(&error)),
            (_, None) => Err(Failure::new(Code::Listen)),
        }
    }

    /// Waits until there is something to do.
    fn wait(&self) -> Result<(), Failure> {
        let now = Instant::now();
        let due = self.sessions.iter().filter_map(|session| session.due(now)).min();
        let limit = due.map_or(PATIENCE, |due| due.saturating_duration_since(now).min(PATIENCE));
        let mut fds: Vec<PollFd<'_>> =
            self.listeners.iter().map(|listener| PollFd::new(listener.as_fd(), PollFlags::POLLIN)).collect();
        fds.extend(self.hellos.iter().map(|hellos| PollFd::new(hellos.as_fd(), PollFlags::POLLIN)));
        self.sessions.iter().for_each(|session| session.watch(&mut fds));
        match ppoll(&mut fds, Some(TimeSpec::from_duration(limit)), None) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
            Err(error) => Err(Failure::new(Code::Listen).because(&io::Error::from(error))),
        }
    }

    /// Takes the connections that wait.
    fn accept(&mut self, now: Instant) {
        for listener in &self.listeners {
            for _ in 0..AT_ONCE {
                // What fails here is the connection's, or a shortage that passes.
                let Ok((stream, _)) = listener.accept() else { break };
                let stream = TcpStream::from(stream);
                if sockets::tune_control(&stream, self.house.config.keep_alive).is_err() {
                    continue;
                }
                let Ok(link) = Link::new(stream) else { continue };
                // The oldest gives way: whoever opens connections and says nothing keeps nobody out.
                let others = || self.sessions.iter().filter(|session| !session.is_test());
                if others().count() >= MOST_OTHERS
                    && let Some(oldest) = self.sessions.iter().position(|session| session.gives_way())
                {
                    self.sessions.remove(oldest);
                } else if others().count() >= MOST_OTHERS {
                    continue;
                }
                self.sessions.push(Session::new(link, now, self.house.running >= self.house.most));
            }
        }
    }

    /// Gives hellos to the tests that await them.
    fn hear(&mut self, now: Instant, tell: &mut dyn FnMut(Event<'_>)) {
        for hellos in &mut self.hellos {
            let sessions = &mut self.sessions;
            let heard = hellos.take(|from| {
                // Of one address there is one at most.
                sessions.iter().position(|session| session.awaits(from.ip()))
            });
            for (place, socket) in heard {
                match socket {
                    Ok(socket) => sessions[place].connect(socket, now, tell),
                    Err(failure) => sessions[place].fail(failure, true, now, tell),
                }
            }
        }
    }

    /// Goes on with each session. The result of all, when the one test is over.
    fn step(&mut self, now: Instant, tell: &mut dyn FnMut(Event<'_>)) -> Option<Result<(), Failure>> {
        let before = self.house.running;
        let mut over = None;
        for n in 0..self.sessions.len() {
            self.sessions[n].step(&mut self.house, now, tell);
            let from = self.sessions[n].peer();
            // Nothing in a hello says whose it is: tests of one address connect their streams one after the other.
            let turn = self.sessions[n].queues() && !self.sessions.iter().any(|other| other.awaits(from));
            if turn {
                self.sessions[n].create_streams(now, tell);
            }
        }
        self.sessions.retain_mut(|session| {
            if session.is_over() && session.is_counted() {
                self.house.running -= 1;
                over = Some(session.result());
            }
            !session.is_over()
        });
        if let Some(result) = over.take() {
            if self.house.config.one_off {
                return Some(result);
            }
            if self.house.running == 0 {
                self.idle = now;
                tell(Event::Listening { address: self.address, next: self.house.next });
            }
        } else if before > 0 || self.house.running > 0 {
            self.idle = now;
        }
        match self.house.config.idle_timeout {
            Some(limit) if now.saturating_duration_since(self.idle) >= limit => {
                if self.house.config.one_off {
                    return Some(Ok(()));
                }
                self.idle = now;
                tell(Event::Listening { address: self.address, next: self.house.next });
            }
            _ => {}
        }
        None
    }

    /// Ends all tests, as somebody asked for that.
    fn terminate(&mut self, tell: &mut dyn FnMut(Event<'_>)) {
        for session in &mut self.sessions {
            session.terminate(tell);
        }
    }
}
