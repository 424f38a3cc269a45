//! Media files to be sent by RTP: what is in them, and how fast it plays.
#![forbid(unsafe_code)]

use std::time::Duration;

use super::payload::Payload;
use super::rtp::{DYNAMIC, TS_PACKET};
use crate::error::{Error, Result};
use crate::packet::rtp::PT_MP2T;

/// A packet of a transport stream that means nothing (PID 8191).
const NULL_PACKET: [u8; 4] = [0x47, 0x1f, 0xff, 0x10];

/// Units of the program clock reference in a second.
const PCR_HZ: f64 = 27e6;

/// What a file was recognised as.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Kind {
    /// Payload type; [`DYNAMIC`] where there is no static one.
    pub payload_type: u8,
    /// Units of the time stamp in a second.
    pub clock_hz: u32,
    /// Octets that last a second; `None`: unknown.
    pub octets_per_second: Option<f64>,
}

/// The content of a file, ready to be cut into packets.
#[derive(Debug)]
pub struct Media {
    bytes: Vec<u8>,
    /// What it is, where it says so itself.
    pub kind: Option<Kind>,
}

impl Media {
    /// Takes a file's content: WAV (PCM of 16 bits, µ-law, A-law) and transport streams are recognised, everything else is octets as they are sent.
    ///
    /// # Errors
    /// `Usage` when it is a WAV file of another encoding, or cut short.
    pub fn new(payload: Payload) -> Result<Self> {
        let Payload::File(bytes) = payload else {
            return Err(Error::usage("media: only a file has some").fix("use --payload-file"));
        };
        if bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WAVE") {
            return wav(&bytes);
        }
        let is_ts =
            bytes.len() >= 2 * TS_PACKET && bytes.iter().step_by(TS_PACKET).take(5).all(|&b| b == 0x47);
        if !is_ts {
            return Ok(Self { bytes, kind: None });
        }
        let whole = bytes.len() / TS_PACKET * TS_PACKET;
        if let Some(at) = bytes[..whole].iter().step_by(TS_PACKET).position(|&b| b != 0x47) {
            return Err(Error::usage(format!(
                "payload file: a transport stream until byte {}, and then none",
                at * TS_PACKET
            ))
            .fix("use a file of whole packets of 188 bytes"));
        }
        let mut bytes = bytes;
        // The end of a file that was cut in a packet.
        bytes.truncate(whole);
        let kind =
            Kind { payload_type: PT_MP2T, clock_hz: 90_000, octets_per_second: octets_per_second(&bytes) };
        Ok(Self { bytes, kind: Some(kind) })
    }

    /// How many packets of `octets` each it is, the last filled up.
    pub fn packets(&self, octets: usize) -> u64 {
        self.bytes.len().div_ceil(octets.max(1)) as u64
    }

    /// The content for packets of `octets` each, the last filled up with `silence`, or with null packets in a transport stream.
    pub fn into_payload(self, octets: usize, silence: u8) -> Payload {
        let Self { mut bytes, kind } = self;
        let whole = bytes.len().next_multiple_of(octets.max(1));
        if kind.is_some_and(|kind| kind.payload_type == PT_MP2T) {
            while bytes.len() < whole {
                bytes.extend(NULL_PACKET);
                bytes.resize(bytes.len() + TS_PACKET - NULL_PACKET.len(), 0xff);
            }
        }
        bytes.resize(whole, silence);
        Payload::File(bytes)
    }
}

/// The sound in a WAV file: its chunks `fmt ` and `data`.
fn wav(file: &[u8]) -> Result<Media> {
    let wrong = |why: &str| {
        Error::usage(format!("payload file: a WAV file {why}"))
            .fix("make one of 16-bit PCM, µ-law or A-law, such as with ffmpeg -i IN -ar 8000 -ac 1 -c:a pcm_mulaw OUT.wav")
    };
    let (mut at, mut format) = (12, None);
    loop {
        let Some(head) = file.get(at..at + 8) else { return Err(wrong("without sound")) };
        let len = u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize;
        let body = &file[at + 8..];
        // What is recorded into a pipe says that it has no end.
        let body = &body[..len.min(body.len())];
        match &head[..4] {
            b"fmt " => {
                let two = |at: usize| body.get(at..at + 2).map(|b| u16::from_le_bytes([b[0], b[1]]));
                let hz = body.get(4..8).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]));
                format = two(0).zip(two(2)).zip(hz.zip(two(14)));
            }
            b"data" => {
                let ((code, channels), (hz, bits)) =
                    format.ok_or_else(|| wrong("whose format is not told"))?;
                return sound(code, channels, hz, bits, body).ok_or_else(|| {
                    wrong(&format!("of format {code} with {bits} bits and {channels} channels"))
                });
            }
            _ => {}
        }
        // Chunks lie at even places.
        at += 8 + len + len % 2;
    }
}

fn sound(code: u16, channels: u16, hz: u32, bits: u16, data: &[u8]) -> Option<Media> {
    let (payload_type, bytes) = match (code, bits, channels, hz) {
        (7, 8, 1, 8000) => (0, data.to_vec()),
        (6, 8, 1, 8000) => (8, data.to_vec()),
        (6 | 7, 8, 1.., 1..) => (DYNAMIC, data.to_vec()),
        (1, 16, 1.., 1..) => {
            let payload_type = match (channels, hz) {
                (2, 44_100) => 10,
                (1, 44_100) => 11,
                _ => DYNAMIC,
            };
            // L16 has the network's byte order (RFC 3551 §4.5.11).
            (payload_type, data.chunks_exact(2).flat_map(|pair| [pair[1], pair[0]]).collect())
        }
        _ => return None,
    };
    if bytes.is_empty() {
        return None;
    }
    let octets_per_second = f64::from(hz) * f64::from(channels) * f64::from(bits) / 8.0;
    let kind = Kind { payload_type, clock_hz: hz, octets_per_second: Some(octets_per_second) };
    Some(Media { bytes, kind: Some(kind) })
}

/// The mean rate of a transport stream by its program clock references: those of the first PID that has some.
fn octets_per_second(ts: &[u8]) -> Option<f64> {
    let mut found: Option<(u16, usize, u64)> = None;
    let mut last = None;
    for (n, packet) in ts.chunks_exact(TS_PACKET).enumerate() {
        let pid = u16::from_be_bytes([packet[1], packet[2]]) & 0x1fff;
        // An adaptation field of seven bytes or more with the PCR flag (ISO/IEC 13818-1 §2.4.3.4).
        let has_pcr = packet[3] & 0x20 != 0 && packet[4] >= 7 && packet[5] & 0x10 != 0;
        if !has_pcr || found.is_some_and(|(of, ..)| of != pid) {
            continue;
        }
        let base = u64::from(u32::from_be_bytes([packet[6], packet[7], packet[8], packet[9]])) << 1
            | u64::from(packet[10] >> 7);
        let pcr = base * 300 + u64::from(u16::from_be_bytes([packet[10], packet[11]]) & 0x1ff);
        match found {
            None => found = Some((pid, n, pcr)),
            Some(_) => last = Some((n, pcr)),
        }
    }
    let ((_, first_n, first), (last_n, last)) = found.zip(last)?;
    let seconds = last.checked_sub(first).filter(|&d| d > 0)? as f64 / PCR_HZ;
    Some(((last_n - first_n) * TS_PACKET) as f64 / seconds)
}

/// The time that `octets` of it last.
pub fn duration_of(kind: &Kind, octets: usize) -> Option<Duration> {
    let seconds = octets as f64 / kind.octets_per_second?;
    Some(Duration::from_secs_f64(seconds.clamp(1e-9, 1e5)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn wav_file(code: u16, channels: u16, hz: u32, bits: u16, data: &[u8]) -> Vec<u8> {
        let mut file = b"RIFF\0\0\0\0WAVELIST\x03\0\0\0abc\0fmt \x10\0\0\0".to_vec();
        file.extend(code.to_le_bytes());
        file.extend(channels.to_le_bytes());
        file.extend(hz.to_le_bytes());
        file.extend([0; 6]);
        file.extend(bits.to_le_bytes());
        file.extend(b"data");
        file.extend((data.len() as u32).to_le_bytes());
        file.extend(data);
        file
    }

    fn ts_packet(pid: u16, pcr: Option<u64>) -> Vec<u8> {
        let mut packet = vec![0x47];
        packet.extend(pid.to_be_bytes());
        match pcr {
            None => packet.push(0x10),
            Some(pcr) => {
                let (base, extension) = (pcr / 300, (pcr % 300) as u16);
                packet.extend([0x30, 7, 0x10]);
                packet.extend(((base >> 1) as u32).to_be_bytes());
                packet.extend((((base & 1) as u16) << 15 | 0x7e00 | extension).to_be_bytes());
            }
        }
        packet.resize(TS_PACKET, 0);
        packet
    }

    #[test]
    fn sound_is_recognised() {
        for (file, payload_type, clock, rate) in [
            (wav_file(7, 1, 8000, 8, &[1; 100]), 0, 8000, 8000.0),
            (wav_file(6, 1, 8000, 8, &[1; 100]), 8, 8000, 8000.0),
            (wav_file(1, 2, 44_100, 16, &[1; 100]), 10, 44_100, 176_400.0),
            (wav_file(1, 1, 44_100, 16, &[1; 100]), 11, 44_100, 88_200.0),
            (wav_file(1, 1, 16_000, 16, &[1; 100]), DYNAMIC, 16_000, 32_000.0),
        ] {
            let media = Media::new(Payload::File(file)).unwrap();
            let kind = media.kind.unwrap();
            assert_eq!(
                (kind.payload_type, kind.clock_hz, kind.octets_per_second),
                (payload_type, clock, Some(rate))
            );
            assert_eq!(media.bytes.len(), 100);
        }
        let swapped = Media::new(Payload::File(wav_file(1, 1, 44_100, 16, &[1, 2, 3, 4]))).unwrap();
        assert_eq!(swapped.bytes, [2, 1, 4, 3]);
        for file in [
            wav_file(1, 1, 8000, 24, &[1; 9]),
            wav_file(3, 1, 8000, 32, &[1; 8]),
            b"RIFF\0\0\0\0WAVE".to_vec(),
        ] {
            assert!(Media::new(Payload::File(file)).unwrap_err().fix.is_some());
        }
    }

    #[test]
    fn a_transport_stream_tells_its_rate() {
        // A reference every 10 packets and 10 ms: 188 kB/s. Another PID has others.
        let ts: Vec<u8> = (0..100u64)
            .flat_map(|n| match n % 10 {
                0 => ts_packet(256, Some(27_000_000 + n * 27_000)),
                5 => ts_packet(257, Some(n)),
                _ => ts_packet(256, None),
            })
            .collect();
        let media = Media::new(Payload::File([&ts[..], &ts[..50]].concat())).unwrap();
        let kind = media.kind.unwrap();
        assert_eq!((kind.payload_type, media.bytes.len()), (PT_MP2T, ts.len()));
        assert!((kind.octets_per_second.unwrap() - 188_000.0).abs() < 1e-6);
        assert_eq!(duration_of(&kind, 1880), Some(Duration::from_millis(10)));
        assert_eq!(media.packets(1316), 15);
        let Payload::File(filled) = media.into_payload(1316, 0) else { panic!() };
        assert_eq!(filled.len(), 15 * 1316);
        assert!(filled.iter().step_by(TS_PACKET).all(|&b| b == 0x47));
        assert_eq!(filled[100 * TS_PACKET..][..4], NULL_PACKET);
        let mut broken = ts;
        broken[50 * TS_PACKET] = 0;
        assert!(Media::new(Payload::File(broken)).unwrap_err().what.contains("until byte 9400"));
    }

    #[test]
    fn anything_else_is_octets() {
        let media = Media::new(Payload::File(vec![1; 100])).unwrap();
        assert_eq!((media.kind, media.packets(160)), (None, 1));
        let Payload::File(filled) = media.into_payload(160, 0xff) else { panic!() };
        assert_eq!((filled.len(), filled[99], filled[100]), (160, 1, 0xff));
    }

    proptest! {
        #[test]
        fn no_file_panics(bytes in prop::collection::vec(any::<u8>(), 1..900), kind in 0..3) {
            let mut bytes = bytes;
            match kind {
                0 => drop(bytes.splice(..0, *b"RIFF\0\0\0\0WAVE")),
                1 => bytes.iter_mut().step_by(TS_PACKET).for_each(|b| *b = 0x47),
                _ => {}
            }
            if let Ok(media) = Media::new(Payload::File(bytes)) {
                let _ = media.into_payload(171, 0);
            }
        }
    }
}
