//! AF_XDP sockets.

pub mod steer;
