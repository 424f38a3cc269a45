//! The results of a test as they travel, first to the server and then to the client.
#![forbid(unsafe_code)]

use serde_json::{Map, Value, json};

use super::event::{Cpu, ServerOutput, Totals};
use super::failure::{Code, Failure};
use super::parameters::stream_id;

/// Most streams that are read: more than a test has are an error in any case.
const MOST: usize = 2 * super::MAX_STREAMS as usize;

/// What one end says of a stream, as it travels: packets and losses with the omitted beginning, bytes without.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct StreamResult {
    /// Payload in bytes.
    pub bytes: u64,
    /// Datagrams sent, or the highest number.
    pub packets: u64,
    /// Of these in the omitted beginning; `None`: not told (before 3.14).
    pub omitted_packets: Option<u64>,
    /// Lost.
    pub errors: i64,
    /// Of these in the omitted beginning; `None`: not told (before 3.14).
    pub omitted_errors: Option<i64>,
    /// Jitter in seconds.
    pub jitter: f64,
    /// How long it lasted in seconds.
    pub seconds: f64,
}

impl StreamResult {
    /// Without the omitted beginning, of which this end knows that it had `own_omitted` packets, where the other does not tell.
    pub fn totals(&self, own_omitted: u64) -> Totals {
        Totals {
            bytes: self.bytes,
            packets: self.packets.saturating_sub(self.omitted_packets.unwrap_or(own_omitted)),
            lost: self.errors.saturating_sub(self.omitted_errors.unwrap_or(0)),
            out_of_order: 0,
            jitter: self.jitter,
            seconds: self.seconds,
        }
    }
}

/// What one end says of a test.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Results {
    /// CPU time.
    pub cpu: Cpu,
    /// For each stream, in the order in which they were opened.
    pub streams: Vec<StreamResult>,
    /// What the server has printed.
    pub output: Option<ServerOutput>,
}

impl Results {
    /// As they travel; `sends` says whether this end sends anything.
    pub fn to_json(&self, sends: bool) -> Value {
        let streams: Vec<Value> = (0..)
            .zip(&self.streams)
            .map(|(place, stream)| {
                json!({
                    "id": stream_id(place),
                    "bytes": stream.bytes,
                    "retransmits": -1,
                    "jitter": finite(stream.jitter),
                    "errors": stream.errors,
                    "omitted_errors": stream.omitted_errors.unwrap_or(0),
                    "packets": stream.packets,
                    "omitted_packets": stream.omitted_packets.unwrap_or(0),
                    "start_time": 0,
                    "end_time": finite(stream.seconds),
                })
            })
            .collect();
        let mut json = json!({
            "cpu_util_total": finite(self.cpu.total),
            "cpu_util_user": finite(self.cpu.user),
            "cpu_util_system": finite(self.cpu.system),
            "sender_has_retransmits": if sends { 0 } else { -1 },
        });
        match &self.output {
            None => {}
            Some(ServerOutput::Text(text)) => json["server_output_text"] = text.as_str().into(),
            Some(ServerOutput::Json(value)) => json["server_output_json"] = value.clone(),
        }
        json["streams"] = streams.into();
        json
    }

    /// Reads those of the other end for a test of `streams` streams.
    ///
    /// # Errors
    /// ReceiveResults, when something that has to be there is not, or is of the wrong type; StreamId, for a stream that there is not.
    pub fn from_json(mut json: Value, streams: usize) -> Result<Self, Failure> {
        let wrong = |what: &str| Failure::new(Code::ReceiveResults).detail(what.to_owned());
        let object = json.as_object().ok_or_else(|| wrong("the results are no JSON object"))?;
        let cpu = |key: &str| float(object, key).ok_or_else(|| wrong(key));
        let cpu = Cpu {
            total: cpu("cpu_util_total")?,
            user: cpu("cpu_util_user")?,
            system: cpu("cpu_util_system")?,
        };
        float(object, "sender_has_retransmits").ok_or_else(|| wrong("sender_has_retransmits"))?;
        let list = object.get("streams").and_then(Value::as_array).ok_or_else(|| wrong("streams"))?;
        if list.len() > MOST {
            return Err(wrong("too many streams"));
        }
        let mut results = vec![StreamResult::default(); streams];
        for stream in list {
            let stream = stream.as_object().ok_or_else(|| wrong("a stream is no JSON object"))?;
            let id = integer(stream, "id").ok_or_else(|| wrong("id"))?;
            let place = (0..streams).find(|&place| i128::from(stream_id(place)) == id);
            let place = place
                .ok_or_else(|| Failure::new(Code::StreamId).detail(format!("there is no stream {id}")))?;
            results[place] = read_stream(stream).map_err(wrong)?;
        }
        let output = match json.get_mut("server_output_json") {
            Some(value) => Some(ServerOutput::Json(value.take())),
            None => json
                .get("server_output_text")
                .and_then(Value::as_str)
                .map(|text| ServerOutput::Text(text.to_owned())),
        };
        Ok(Self { cpu, streams: results, output })
    }
}

fn read_stream(stream: &Map<String, Value>) -> Result<StreamResult, &'static str> {
    integer(stream, "retransmits").ok_or("retransmits")?;
    let count = |key: &'static str| Some(u64::try_from(integer(stream, key)?).unwrap_or(0));
    let signed = |key: &'static str| {
        Some(integer(stream, key)?.clamp(i64::MIN.into(), i64::MAX.into())).map(|n| n as i64)
    };
    let omitted = (signed("omitted_errors"), count("omitted_packets"));
    if omitted.0.is_some() != omitted.1.is_some() {
        return Err("omitted_errors without omitted_packets, or the other way round");
    }
    let seconds = |key: &str| float(stream, key).unwrap_or(0.0);
    Ok(StreamResult {
        bytes: count("bytes").ok_or("bytes")?,
        packets: count("packets").ok_or("packets")?,
        omitted_packets: omitted.1,
        errors: signed("errors").ok_or("errors")?,
        omitted_errors: omitted.0,
        jitter: float(stream, "jitter").ok_or("jitter")?,
        seconds: (seconds("end_time") - seconds("start_time")).max(0.0),
    })
}

fn float(json: &Map<String, Value>, key: &str) -> Option<f64> {
    json.get(key)?.as_f64().filter(|float| float.is_finite())
}

/// A whole number. 3.12 writes -1 as 2⁶⁴ - 1.
fn integer(json: &Map<String, Value>, key: &str) -> Option<i128> {
    let value = json.get(key)?;
    if let Some(number) = value.as_u64() {
        return Some(if number > i64::MAX as u64 { -1 } else { number.into() });
    }
    value.as_i64().map(i128::from).or_else(|| Some(value.as_f64()? as i128))
}

fn finite(float: f64) -> f64 {
    if float.is_finite() { float } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stream(bytes: u64) -> StreamResult {
        StreamResult {
            bytes,
            packets: 100,
            omitted_packets: Some(10),
            errors: 7,
            omitted_errors: Some(2),
            jitter: 0.0015,
            seconds: 2.5,
        }
    }

    #[test]
    fn what_is_sent_is_what_is_read() {
        let cpu = Cpu { total: 12.5, user: 2.5, system: 10.0 };
        for output in [None, Some(ServerOutput::Text("text\n".into())), Some(ServerOutput::Json(json!({})))] {
            let results = Results { cpu, streams: vec![stream(1), stream(2), stream(3)], output };
            assert_eq!(Results::from_json(results.to_json(true), 3).unwrap(), results);
        }
        let totals = stream(9).totals(0);
        assert_eq!((totals.packets, totals.lost), (90, 5));
    }

    #[test]
    fn results_of_3_12_are_read() {
        // As it writes them: -1 without a sign, and nothing of what was omitted.
        let json = json!({"cpu_util_total": 0.5, "cpu_util_user": 0.25, "cpu_util_system": 0.25,
            "sender_has_retransmits": 18_446_744_073_709_551_615u64,
            "streams": [{"id": 1, "bytes": 5000, "retransmits": 18_446_744_073_709_551_615u64, "jitter": 1e-05,
                "errors": 3, "packets": 8, "start_time": 0, "end_time": 1.5}]});
        let read = Results::from_json(json, 1).unwrap();
        let totals = read.streams[0].totals(2);
        assert_eq!((totals.bytes, totals.packets, totals.lost, totals.seconds), (5000, 6, 3, 1.5));
    }

    #[test]
    fn what_is_missing_or_wrong_is_said() {
        let whole = Results { streams: vec![stream(1)], ..Results::default() }.to_json(false);
        for key in ["cpu_util_total", "sender_has_retransmits", "streams"] {
            let mut json = whole.clone();
            json.as_object_mut().unwrap().remove(key);
            assert_eq!(Results::from_json(json, 1).unwrap_err().code, Code::ReceiveResults, "{key}");
        }
        for key in ["id", "bytes", "retransmits", "jitter", "errors", "packets", "omitted_packets"] {
            let mut json = whole.clone();
            json["streams"][0][key] = "x".into();
            assert_eq!(Results::from_json(json, 1).unwrap_err().code, Code::ReceiveResults, "{key}");
        }
        let mut json = whole;
        json["streams"][0]["id"] = 2.into();
        assert_eq!(Results::from_json(json, 1).unwrap_err().code, Code::StreamId);
    }

    proptest! {
        #[test]
        fn no_numbers_panic(key in "[a-z_]{1,9}", float in any::<f64>(), whole in any::<u64>()) {
            for value in [json!(float), json!(whole)] {
                let mut json = Results { streams: vec![stream(1)], ..Results::default() }.to_json(false);
                json["streams"][0][key.as_str()] = value;
                let _ = Results::from_json(json, 1).map(|results| results.streams[0].totals(u64::MAX));
            }
        }
    }
}
