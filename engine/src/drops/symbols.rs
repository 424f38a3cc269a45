//! The kernel's functions by address, from /proc/kallsyms: they name the place of a drop for which the kernel gives no reason.
#![forbid(unsafe_code)]

use std::fs;
use std::sync::OnceLock;

const FILE: &str = "/proc/kallsyms";

/// Functions in rising order of their addresses. Those of modules that are loaded later are not among them.
#[derive(Debug, Default)]
struct Symbols(Vec<(u64, Box<str>)>);

/// The function that `address` is in, without what the compiler appended to its name; `None` for 0, and where the kernel hides its addresses
/// (kernel.kptr_restrict, no CAP_SYSLOG). The first call reads all of the kernel's symbols.
pub(super) fn function_at(address: u64) -> Option<String> {
    static SYMBOLS: OnceLock<Symbols> = OnceLock::new();
    if address == 0 {
        return None;
    }
    let symbols = SYMBOLS.get_or_init(|| Symbols::parse(&fs::read_to_string(FILE).unwrap_or_default()));
    symbols.at(address).map(str::to_owned)
}

impl Symbols {
    /// Lines of `address type name [module]`.
    fn parse(text: &str) -> Self {
        let function = |line: &str| {
            let mut words = line.split_ascii_whitespace();
            let address = u64::from_str_radix(words.next()?, 16).ok().filter(|&address| address != 0)?;
            let is_code = matches!(words.next()?, "t" | "T" | "w" | "W");
            let name = words.next()?;
            is_code.then(|| (address, name.split('.').next().unwrap_or(name).into()))
        };
        let mut all: Vec<_> = text.lines().filter_map(function).collect();
        all.sort_by_key(|&(address, _)| address);
        Self(all)
    }

    fn at(&self, address: u64) -> Option<&str> {
        let after = self.0.partition_point(|&(start, _)| start <= address);
        self.0.get(after.checked_sub(1)?).map(|(_, name)| &**name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_belongs_to_the_function_before_it() {
        let symbols = Symbols::parse(
            "ffffffff81db82b0 t veth_xmit\n\
             ffffffff81db9000 d veth_data\n\
             ffffffff82153c10 T br_forward\n\
             ffffffff81db8f00 t veth_close.isra.0\t[veth]\n\
             0000000000000000 T hidden\n\
             rubbish\n",
        );
        for (address, name) in [
            (0xffff_ffff_81db_82af, None),
            (0xffff_ffff_81db_82b0, Some("veth_xmit")),
            (0xffff_ffff_81db_8eff, Some("veth_xmit")),
            (0xffff_ffff_81db_9000, Some("veth_close")),
            (u64::MAX, Some("br_forward")),
        ] {
            assert_eq!(symbols.at(address), name, "{address:x}");
        }
        assert_eq!(Symbols::parse("").at(1), None);
    }
}
