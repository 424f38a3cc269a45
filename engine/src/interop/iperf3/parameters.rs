//! The parameters of a test as they travel from the client to the server.
//!
//! As in iperf3 a key of the wrong type is as if it were not there: flags are `true`, numbers are numbers. A number that is out of its range is refused with
//! iperf3's error.
#![forbid(unsafe_code)]

use serde_json::{Map, Value};

use super::config::{Amount, ClientConfig, Direction};
use super::event::Parameters;
use super::failure::{Code, Failure};
use super::{DEFAULT_LENGTH, MAX_BURST, MAX_LENGTH, MAX_OMIT, MAX_SECONDS, MAX_STREAMS, MIN_LENGTH};

/// The version that is told to the other end: its rules are spoken.
pub const VERSION: &str = "3.21";

/// Largest socket buffer (`-w`), in bytes.
pub const MAX_WINDOW: u32 = 512 << 20;

/// Bytes of a buffer of several datagrams, as iperf3 tells it.
const SUPER_BUFFER: u64 = 65_507;

/// Most datagrams of such a buffer, as iperf3 has it.
const MOST_SEGMENTS: u64 = 64;

/// Longest title, extra data and version that are kept, in characters.
const MAX_TEXT: usize = 1024;

impl Parameters {
    /// What `config` asks for, with a payload of `length` bytes.
    pub fn of_client(config: &ClientConfig, length: u16) -> Self {
        Self {
            direction: config.direction,
            parallel: config.parallel,
            length,
            amount: config.amount,
            omit: config.omit,
            bandwidth: config.bandwidth,
            burst: config.burst,
            fq_rate: 0,
            window: config.window.unwrap_or(0),
            tos: config.tos,
            flow_label: config.flow_label.unwrap_or(0),
            dont_fragment: config.dont_fragment,
            counters_64bit: config.counters_64bit,
            gso: config.gsro,
            gro: config.gsro,
            repeating_payload: config.repeating_payload,
            zero_copy: config.zero_copy,
            skip_rx_copy: config.skip_rx_copy,
            get_server_output: config.get_server_output,
            server_affinity: config.server_affinity,
            title: config.title.clone(),
            extra_data: config.extra_data.clone(),
            client_version: Some(VERSION.to_owned()),
            user: None,
        }
    }

    /// As they travel, with a token of authentication where there is one.
    pub fn to_json(&self, token: Option<&str>) -> Value {
        let mut json = Map::new();
        let mut put = |key: &str, value: Value| json.insert(key.to_owned(), value);
        put("udp", true.into());
        put("omit", self.omit.into());
        if let Some(cpu) = self.server_affinity {
            put("server_affinity", cpu.into());
        }
        let (seconds, bytes, blocks) = match self.amount {
            Amount::Seconds(seconds) => (seconds, 0, 0),
            Amount::Bytes(bytes) => (0, bytes, 0),
            Amount::Blocks(blocks) => (0, 0, blocks),
        };
        put("time", seconds.into());
        put("num", bytes.into());
        put("blockcount", blocks.into());
        put("parallel", self.parallel.into());
        match self.direction {
            Direction::Normal => {}
            Direction::Reverse => drop(put("reverse", true.into())),
            Direction::Bidirectional => drop(put("bidirectional", true.into())),
        }
        put("len", self.length.into());
        put("pacing_timer", 1000.into());
        // As in iperf3 a number that is 0 is not told.
        for (key, number) in [
            ("window", u64::from(self.window)),
            ("bandwidth", self.bandwidth),
            ("fqrate", self.fq_rate),
            ("burst", self.burst.into()),
            ("TOS", self.tos.into()),
            ("flowlabel", self.flow_label.into()),
            ("get_server_output", self.get_server_output.into()),
            ("udp_counters_64bit", self.counters_64bit.into()),
            ("repeating_payload", self.repeating_payload.into()),
            ("zerocopy", self.zero_copy.into()),
            ("dont_fragment", self.dont_fragment.into()),
            ("skip_rx_copy", self.skip_rx_copy.into()),
        ] {
            if number > 0 {
                put(key, number.into());
            }
        }
        let length = u64::from(self.length);
        let together = (SUPER_BUFFER / length).clamp(1, MOST_SEGMENTS) * length;
        put("gso", u8::from(self.gso).into());
        put("gso_dg_size", if self.gso { length } else { 0 }.into());
        put("gso_bf_size", if self.gso { together } else { SUPER_BUFFER }.into());
        put("gro", u8::from(self.gro).into());
        put("gro_bf_size", SUPER_BUFFER.into());
        for (key, text) in [
            ("title", self.title.as_deref()),
            ("extra_data", self.extra_data.as_deref()),
            ("authtoken", token),
            ("client_version", self.client_version.as_deref()),
        ] {
            if let Some(text) = text {
                put(key, text.into());
            }
        }
        Value::Object(json)
    }

    /// Reads what a client asks for.
    ///
    /// # Errors
    /// iperf3's, for what is out of its range; Protocol, for a test that is not of UDP.
    pub fn from_json(json: &Value) -> Result<Self, Failure> {
        let Some(json) = json.as_object() else {
            return Err(Failure::new(Code::ReceiveParameters).detail("the parameters are no JSON object"));
        };
        if !flag(json, "udp") || flag(json, "sctp") {
            return Err(Failure::new(Code::Protocol).detail("only UDP is tested here"));
        }
        let direction = match (flag(json, "reverse"), flag(json, "bidirectional")) {
            (false, false) => Direction::Normal,
            (true, false) => Direction::Reverse,
            (false, true) => Direction::Bidirectional,
            (true, true) => return Err(Failure::new(Code::ReverseBidirectional)),
        };
        let seconds = number(json, "time", 0..=MAX_SECONDS.into(), Code::Duration)?.unwrap_or(10) as u32;
        let any = || 0..=i64::MAX as u64;
        let bytes = number(json, "num", any(), Code::ReceiveParameters)?.unwrap_or(0);
        let blocks = number(json, "blockcount", any(), Code::ReceiveParameters)?.unwrap_or(0);
        let amount = match (bytes, blocks) {
            (0, 0) => Amount::Seconds(seconds),
            (0, blocks) => Amount::Blocks(blocks),
            (bytes, _) => Amount::Bytes(bytes),
        };
        let length = match number(json, "len", any(), Code::UdpLength)?.unwrap_or(0) {
            0 => DEFAULT_LENGTH,
            length if (MIN_LENGTH.into()..=MAX_LENGTH.into()).contains(&length) => length as u16,
            _ => return Err(Failure::new(Code::UdpLength)),
        };
        // Each within what its type holds, by its range.
        Ok(Self {
            direction,
            parallel: number(json, "parallel", 1..=MAX_STREAMS.into(), Code::Streams)?.unwrap_or(1) as u16,
            length,
            amount,
            omit: number(json, "omit", 0..=MAX_OMIT.into(), Code::Omit)?.unwrap_or(0) as u32,
            bandwidth: number(json, "bandwidth", any(), Code::ReceiveParameters)?.unwrap_or(0),
            burst: number(json, "burst", 1..=MAX_BURST.into(), Code::Burst)?.unwrap_or(0) as u16,
            fq_rate: number(json, "fqrate", any(), Code::ReceiveParameters)?.unwrap_or(0),
            window: number(json, "window", 0..=MAX_WINDOW.into(), Code::BufferSize)?.unwrap_or(0) as u32,
            tos: number(json, "TOS", 0..=255, Code::Tos)?.unwrap_or(0) as u8,
            flow_label: number(json, "flowlabel", 1..=0xf_ffff, Code::SetFlowLabel)?.unwrap_or(0) as u32,
            dont_fragment: is_number(json, "dont_fragment"),
            counters_64bit: is_number(json, "udp_counters_64bit"),
            gso: number(json, "gso", any(), Code::ReceiveParameters)?.unwrap_or(0) > 0,
            gro: number(json, "gro", 0..=1, Code::ReceiveParameters)?.unwrap_or(0) > 0,
            repeating_payload: is_number(json, "repeating_payload"),
            zero_copy: is_number(json, "zerocopy"),
            skip_rx_copy: is_number(json, "skip_rx_copy"),
            get_server_output: is_number(json, "get_server_output"),
            server_affinity: number(json, "server_affinity", 0..=1024, Code::Affinity)?.map(|cpu| cpu as u16),
            title: text(json, "title"),
            extra_data: text(json, "extra_data"),
            client_version: text(json, "client_version"),
            user: None,
        })
    }

    /// Streams in both directions together.
    pub fn streams(&self) -> usize {
        usize::from(self.parallel) * if self.direction == Direction::Bidirectional { 2 } else { 1 }
    }

    /// Whether a stream sends at the server, in the order in which they are opened: a client's sending streams come first.
    pub fn server_sends(&self, place: usize) -> bool {
        match self.direction {
            Direction::Normal => false,
            Direction::Reverse => true,
            Direction::Bidirectional => place >= usize::from(self.parallel),
        }
    }

    /// Bits a second of all streams together; 0: no limit.
    pub fn total_bandwidth(&self) -> u64 {
        self.bandwidth.saturating_mul(self.streams() as u64)
    }
}

/// The token of authentication among the parameters, if any.
pub fn token(json: &Value) -> Option<&str> {
    json.get("authtoken")?.as_str()
}

/// The protocol's number of the stream at this place: 2 is left out.
pub fn stream_id(place: usize) -> u32 {
    let place = u32::try_from(place).unwrap_or(u32::MAX);
    if place == 0 { 1 } else { place.saturating_add(2) }
}

fn flag(json: &Map<String, Value>, key: &str) -> bool {
    json.get(key) == Some(&Value::Bool(true))
}

fn is_number(json: &Map<String, Value>, key: &str) -> bool {
    json.get(key).is_some_and(Value::is_number)
}

/// An integer within `range`; a fraction is cut off.
fn number(
    json: &Map<String, Value>,
    key: &str,
    range: std::ops::RangeInclusive<u64>,
    code: Code,
) -> Result<Option<u64>, Failure> {
    let Some(value) = json.get(key).filter(|value| value.is_number()) else { return Ok(None) };
    let wrong = || Failure::new(code).detail(format!("{key} is {value}"));
    let integer = match (value.as_u64(), value.as_f64()) {
        (Some(integer), _) => integer,
        // Fractions, and what does not fit; what is below zero and above all ends at the type's own.
        (None, Some(float)) if float >= 0.0 => float as u64,
        _ => return Err(wrong()),
    };
    if range.contains(&integer) { Ok(Some(integer)) } else { Err(wrong()) }
}

/// A text, without what a terminal would obey.
fn text(json: &Map<String, Value>, key: &str) -> Option<String> {
    Some(json.get(key)?.as_str()?.chars().filter(|c| !c.is_control()).take(MAX_TEXT).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn what_is_sent_is_what_is_read() {
        let mut config = ClientConfig::new("::1");
        for direction in [Direction::Normal, Direction::Reverse, Direction::Bidirectional] {
            for amount in [Amount::Seconds(3), Amount::Bytes(1 << 40), Amount::Blocks(17)] {
                config.direction = direction;
                config.amount = amount;
                (config.parallel, config.burst, config.gsro) = (4, 10, true);
                (config.tos, config.flow_label, config.window) = (0xb8, Some(7), Some(1 << 20));
                (config.counters_64bit, config.dont_fragment) = (true, true);
                (config.title, config.server_affinity) = (Some("a title".to_owned()), Some(3));
                let parameters = Parameters::of_client(&config, 1400);
                let read = Parameters::from_json(&parameters.to_json(Some("token"))).unwrap();
                assert_eq!(read, parameters);
                assert_eq!(token(&parameters.to_json(Some("token"))), Some("token"));
            }
        }
    }

    #[test]
    fn the_least_that_a_client_sends_is_enough() {
        let json = json!({"udp": true, "omit": 0, "time": 2, "num": 0, "blockcount": 0, "parallel": 1, "len": 1000,
            "bandwidth": 1_000_000, "client_version": "x"});
        let read = Parameters::from_json(&json).unwrap();
        assert_eq!((read.amount, read.length, read.streams()), (Amount::Seconds(2), 1000, 1));
        assert_eq!(Parameters::from_json(&json!({"udp": true})).unwrap().length, DEFAULT_LENGTH);
    }

    #[test]
    fn a_key_of_the_wrong_type_is_as_if_it_were_not_there() {
        let json = json!({"udp": true, "reverse": 1, "time": "7", "parallel": [3], "udp_counters_64bit": true,
            "len": {"a": 1}, "title": 5});
        let read = Parameters::from_json(&json).unwrap();
        assert_eq!((read.direction, read.amount, read.parallel), (Direction::Normal, Amount::Seconds(10), 1));
        assert_eq!((read.counters_64bit, read.length, read.title), (false, DEFAULT_LENGTH, None));
    }

    #[test]
    fn what_is_out_of_range_is_refused_with_iperf3s_number() {
        for (key, value, code) in [
            ("time", json!(86_401), 5),
            ("time", json!(-1), 5),
            ("omit", json!(601), 12),
            ("parallel", json!(0), 6),
            ("parallel", json!(129), 6),
            ("parallel", json!(1e30), 6),
            ("len", json!(15), 20),
            ("len", json!(65_508), 20),
            ("len", json!(-5), 20),
            ("burst", json!(1001), 15),
            ("TOS", json!(256), 21),
            ("window", json!(1u64 << 40), 8),
            ("num", json!(-1), 114),
            ("gro", json!(2), 114),
            ("server_affinity", json!(1025), 132),
        ] {
            let mut json = json!({"udp": true});
            json[key] = value;
            let failure = Parameters::from_json(&json).unwrap_err();
            assert_eq!(failure.code.number(), code, "{json}");
        }
        for json in [json!({"tcp": true}), json!({}), json!({"udp": 1})] {
            assert_eq!(Parameters::from_json(&json).unwrap_err().code, Code::Protocol);
        }
        assert_eq!(Parameters::from_json(&json!([1])).unwrap_err().code.number(), 114);
        let both = json!({"udp": true, "reverse": true, "bidirectional": true});
        assert_eq!(Parameters::from_json(&both).unwrap_err().code.number(), 25);
    }

    #[test]
    fn identifiers_leave_2_out() {
        assert_eq!((0..5).map(stream_id).collect::<Vec<_>>(), [1, 3, 4, 5, 6]);
    }

    proptest! {
        #[test]
        fn no_numbers_panic(key in "[a-zA-Z_]{1,12}", value in any::<f64>(), whole in any::<i64>()) {
            for value in [json!(value), json!(whole)] {
                let mut json = json!({"udp": true});
                json[key.as_str()] = value;
                let _ = Parameters::from_json(&json);
            }
        }
    }
}
