//! `--web`: the run in a browser while it goes on, its report when it has ended, and its figures for Prometheus.
//!
//! The commands tell the [`Hub`] what `--json-lines` would print; the server, in a thread of its own, makes the page of it when somebody looks. The threads that
//! send and receive know nothing of either.

mod hub;
mod metrics;
mod server;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::sync::oneshot;
use wirerate_engine::Error;

use crate::args::report::Web as Options;
use crate::output::say;
use crate::{Result, signals};
use hub::Hub;

/// How long open pages get to fetch the report when the run has ended.
const FAREWELL: Duration = Duration::from_secs(3);

/// The page of one run. It ends when this is dropped: at once with nobody looking, when open pages have the report, or with `--web-keep` at a signal.
pub struct Web {
    hub: Arc<Hub>,
    address: SocketAddr,
    keep: bool,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Web {
    /// Opens the port and says where the page is, where one is asked for. `schema` is that of the report to come, `command` what is run, and `target` where to.
    pub fn start(
        options: &Options,
        schema: &'static str,
        command: &str,
        target: Option<String>,
        quiet: bool,
    ) -> Result<Option<Self>> {
        let Some(wanted) = options.web else { return Ok(None) };
        let failed = |e: std::io::Error| {
            Error::usage(format!("--web {wanted}: cannot be listened on"))
                .because(e)
                .fix("name a port that nobody uses, or 0 for any: --web 0")
        };
        let listener = TcpListener::bind(wanted).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let hub = Arc::new(Hub::new(schema, command, target));
        let (stop, stopped) = oneshot::channel();
        let served = Arc::clone(&hub);
        let thread = thread::Builder::new()
            .name("web".to_owned())
            .spawn(move || server::serve(listener, address, &served, stopped))
            .map_err(failed)?;
        if !address.ip().is_loopback() {
            say(&format!(
                "warning: everybody who reaches {address} sees this run; nobody is asked who he is\n  fix: --web {}, and ssh -L to get there",
                address.port()
            ));
        }
        if !quiet || wanted.port() == 0 {
            say(&format!("page: http://{address}/  (for Prometheus: http://{address}/metrics)"));
        }
        Ok(Some(Self { hub, address, keep: options.web_keep, stop: Some(stop), thread: Some(thread) }))
    }

    /// Takes an event, as a line of `--json-lines` has it.
    pub fn event(&self, event: Value) {
        self.hub.event(event);
    }

    /// Takes the report: the run has ended.
    pub fn report(&self, report: Value) {
        self.hub.report(report);
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        self.hub.end();
        if self.keep && !thread::panicking() {
            say(&format!("the run has ended; its page stays at http://{}/ until Ctrl-C", self.address));
            signals::wait();
        }
        let until = Instant::now() + FAREWELL;
        while !self.hub.all_have_seen_the_end() && Instant::now() < until {
            thread::sleep(Duration::from_millis(20));
        }
        // The server sends what it has begun to send, and ends.
        let _ = self.stop.take().map(|stop| stop.send(()));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
