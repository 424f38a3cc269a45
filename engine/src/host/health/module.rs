//! What a plugged module says of itself: its maker, its heat, and the light that it sends and gets.
//!
//! The layouts of its memory: SFF-8472 (SFP, two pages of 256 bytes) and SFF-8636 (QSFP, lower page and upper page 0).
#![forbid(unsafe_code)]

use serde::{Deserialize, Serialize};

/// ETH_MODULE_SFF_8472, ETH_MODULE_SFF_8636 and ETH_MODULE_SFF_8436 of linux/ethtool.h.
const SFF_8079: u32 = 1;
const SFF_8472: u32 = 2;
const SFF_8636: u32 = 3;
const SFF_8436: u32 = 4;

/// A plugged module.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Module {
    /// Who made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vendor: Option<String>,
    /// The maker's part number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<String>,
    /// Its temperature; absent where it measures none, as a copper cable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub celsius: Option<f64>,
    /// Light received, the weakest of its lanes, in milliwatt; absent where it measures none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rx_milliwatt: Option<f64>,
    /// Light sent, the weakest of its lanes, in milliwatt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tx_milliwatt: Option<f64>,
}

impl Module {
    /// What the memory `bytes` of this layout (ETH_MODULE_… of linux/ethtool.h) says; none of a layout that is not known, or of memory that is too short.
    pub fn decode(kind: u32, bytes: &[u8]) -> Option<Self> {
        match kind {
            SFF_8079 | SFF_8472 => Self::sfp(bytes),
            SFF_8636 | SFF_8436 => Self::qsfp(bytes),
            _ => None,
        }
    }

    fn sfp(bytes: &[u8]) -> Option<Self> {
        let mut module = Self { vendor: text(bytes, 20)?, part: text(bytes, 40)?, ..Self::default() };
        // Byte 92, bit 6: it measures; bit 2: the second page is not at its usual place.
        let measures = *bytes.get(92)?;
        if measures & 0x44 == 0x40 {
            let page = bytes.get(256..).unwrap_or_default();
            module.celsius = word(page, 96).map(celsius);
            module.tx_milliwatt = word(page, 102).map(milliwatt);
            module.rx_milliwatt = word(page, 104).map(milliwatt);
        }
        Some(module)
    }

    fn qsfp(bytes: &[u8]) -> Option<Self> {
        let mut module = Self { vendor: text(bytes, 148)?, part: text(bytes, 168)?, ..Self::default() };
        // A module without sensors leaves all zeros: exactly 0 °C with a supply of 0 V is nothing measured.
        if word(bytes, 26)? == 0 {
            return Some(module);
        }
        module.celsius = word(bytes, 22).map(celsius);
        let weakest = |from: usize| {
            let lanes = (0..4).filter_map(|lane| word(bytes, from + 2 * lane));
            // A lane that measures nothing says 0; without any light all four do.
            lanes.filter(|light| *light > 0).min().map(milliwatt)
        };
        module.rx_milliwatt = weakest(34);
        module.tx_milliwatt = weakest(50);
        Some(module)
    }
}

/// 16 bytes of ASCII, filled up with blanks.
fn text(bytes: &[u8], at: usize) -> Option<Option<String>> {
    let field = bytes.get(at..at + 16)?;
    let kept: String =
        field.iter().filter(|b| b.is_ascii_graphic() || **b == b' ').map(|b| char::from(*b)).collect();
    Some(Some(kept.trim().to_owned()).filter(|text| !text.is_empty()))
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2)?.try_into().ok().map(u16::from_be_bytes)
}

/// Two's complement, in 1/256 °C.
fn celsius(word: u16) -> f64 {
    f64::from(word.cast_signed()) / 256.0
}

/// In 0.1 µW.
fn milliwatt(word: u16) -> f64 {
    f64::from(word) / 10_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(bytes: &mut [u8], at: usize, what: &[u8]) {
        bytes[at..at + what.len()].copy_from_slice(what);
    }

    #[test]
    fn an_sfp_that_measures() {
        let mut bytes = vec![0; 512];
        put(&mut bytes, 20, b"ACME OPTICS     ");
        put(&mut bytes, 40, b"SFP-10G-SR\0     ");
        bytes[92] = 0x68;
        put(&mut bytes, 256 + 96, &0x2a80u16.to_be_bytes());
        put(&mut bytes, 256 + 102, &5800u16.to_be_bytes());
        put(&mut bytes, 256 + 104, &12u16.to_be_bytes());
        let module = Module::decode(SFF_8472, &bytes).unwrap();
        assert_eq!(
            (module.vendor.as_deref(), module.part.as_deref()),
            (Some("ACME OPTICS"), Some("SFP-10G-SR"))
        );
        assert_eq!(
            (module.celsius, module.tx_milliwatt, module.rx_milliwatt),
            (Some(42.5), Some(0.58), Some(0.0012))
        );
        bytes[92] = 0;
        let copper = Module::decode(SFF_8472, &bytes).unwrap();
        assert_eq!((copper.celsius, copper.rx_milliwatt), (None, None));
        assert_eq!(Module::decode(SFF_8079, &bytes[..256]).unwrap().celsius, None);
    }

    #[test]
    fn a_qsfp() {
        let mut bytes = vec![0; 256];
        put(&mut bytes, 148, b"ACME            ");
        assert_eq!(Module::decode(SFF_8636, &bytes).unwrap().celsius, None, "no sensors");
        put(&mut bytes, 22, &0xff80u16.to_be_bytes());
        put(&mut bytes, 26, &33_000u16.to_be_bytes());
        put(&mut bytes, 34, &[0x27, 0x10, 0, 0, 0x13, 0x88, 0x27, 0x10]);
        let module = Module::decode(SFF_8636, &bytes).unwrap();
        assert_eq!((module.celsius, module.rx_milliwatt, module.tx_milliwatt), (Some(-0.5), Some(0.5), None));
    }

    proptest::proptest! {
        #[test]
        fn any_memory_is_read(kind in 0u32..6, bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..520)) {
            let _ = Module::decode(kind, &bytes);
        }
    }
}
