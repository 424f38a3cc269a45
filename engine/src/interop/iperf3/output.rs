//! What iperf3 prints with `-J` and `--json-stream`, as plain data.
#![forbid(unsafe_code)]
