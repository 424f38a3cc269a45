//! The far end of a test, and the near end that drives it.
//!
//! A port of a test is an interface of this host or of any other place where `wirerate agent` can be started: a network namespace, a
//! container, a pod, a host. Both ends talk by JSON lines over the agent's standard input and output ([`protocol`]), so that an agent
//! opens no port and needs no secret of its own: whoever may start a program there may measure there. An interface of this host is served
//! by a child of the same program, so that there is one way to do each thing.
//!
//! ```text
//!   near end                                  far end (wirerate agent)
//!   remote::Agent ── requests ──▶ stdin ──▶ serve::serve ──▶ a thread for each task: send, recv, …, watch
//!        ▲                                        │
//!        └────────── events ◀── stdout ◀──────────┘          stderr: for people
//! ```
//!
//! What a task of `send` or `recv` does is said by the arguments that a user would type. They are read by the command line's own definitions,
//! which live in the program and are handed to [`serve::serve`] as a function.
#![forbid(unsafe_code)]

mod child;
mod hello;
mod lines;
pub mod protocol;
mod remote;
pub mod serve;
pub mod watch;

pub use remote::{Agent, Ended, Launch, Pong, Say, Task};
