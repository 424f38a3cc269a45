//! The kernel's description of its own types (BTF), as far as the drop programs need it: where a member of a structure
//! lies, the names of an enumeration, the number of a tracepoint's arguments.
//!
//! The format is described in `Documentation/bpf/btf.rst` of the kernel. What is read is not trusted: a damaged file
//! makes a question unanswered, never a panic.
#![forbid(unsafe_code)]

use std::collections::{HashMap, HashSet};
use std::path::Path;

use crate::error::{Error, Result};

/// Where the kernel shows its BTF.
pub const KERNEL: &str = "/sys/kernel/btf/vmlinux";

const MAGIC: u16 = 0xeb9f;

/// Levels of nesting and of type modifiers that are followed; the kernel's structures have fewer than ten.
const DEPTH: u32 = 32;

mod kind {
    pub const INT: u32 = 1;
    pub const POINTER: u32 = 2;
    pub const ARRAY: u32 = 3;
    pub const STRUCT: u32 = 4;
    pub const UNION: u32 = 5;
    pub const ENUM: u32 = 6;
    pub const TYPEDEF: u32 = 8;
    pub const VOLATILE: u32 = 9;
    pub const CONST: u32 = 10;
    pub const RESTRICT: u32 = 11;
    pub const FUNCTION_PROTOTYPE: u32 = 13;
    pub const VARIABLE: u32 = 14;
    pub const DATA_SECTION: u32 = 15;
    pub const DECLARATION_TAG: u32 = 17;
    pub const TYPE_TAG: u32 = 18;
    pub const ENUM64: u32 = 19;
    pub const LAST: u32 = 19;
}

/// Parsed BTF.
#[derive(Debug)]
pub struct Btf {
    bytes: Vec<u8>,
    /// Where the strings lie in `bytes`.
    strings: std::ops::Range<usize>,
    /// Where each type lies in `bytes`; type 0 is `void` and lies nowhere.
    types: Vec<usize>,
}

/// The fixed part of a type's description.
#[derive(Clone, Copy)]
struct Type {
    at: usize,
    name: u32,
    kind: u32,
    count: usize,
    /// Member offsets hold a bit field's width in their highest byte.
    bit_fields: bool,
    /// Size or referenced type.
    refers_to: u32,
}

impl Btf {
    /// The running kernel's.
    ///
    /// # Errors
    /// Environment, when the kernel shows none or it cannot be understood.
    pub fn of_kernel() -> Result<Self> {
        let unknown = |what: String| {
            Error::environment(what).fix(
                "use a kernel built with CONFIG_DEBUG_INFO_BTF=y, as those of the common distributions are",
            )
        };
        let bytes = std::fs::read(Path::new(KERNEL)).map_err(|error| {
            unknown(format!("{KERNEL}: the kernel does not describe its types")).because(error)
        })?;
        Self::parse(bytes).map_err(|why| unknown(format!("{KERNEL}: {why}")))
    }

    /// Parses BTF in this machine's byte order.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(bytes: Vec<u8>) -> std::result::Result<Self, &'static str> {
        let word = |at: usize| read_u32(&bytes, at).map(|n| n as usize);
        let magic = bytes.get(..2).and_then(|b| b.try_into().ok()).map(u16::from_ne_bytes);
        if magic != Some(MAGIC) || bytes.get(2) != Some(&1) {
            return Err("not BTF of version 1 in this machine's byte order");
        }
        let section = |at: usize| -> Option<std::ops::Range<usize>> {
            let start = word(4)?.checked_add(word(at)?)?;
            let end = start.checked_add(word(at + 4)?)?;
            (end <= bytes.len()).then_some(start..end)
        };
        let (Some(all_types), Some(strings)) = (section(8), section(16)) else {
            return Err("its sections reach beyond its end");
        };
        let mut types = Vec::new();
        let mut at = all_types.start;
        while at < all_types.end {
            let this = describe(&bytes, at).ok_or("a type is cut short")?;
            let length = this.length().ok_or("a type of an unknown kind")?;
            at = at.checked_add(length).filter(|&end| end <= all_types.end).ok_or("a type is cut short")?;
            types.push(this.at);
        }
        Ok(Self { bytes, strings, types })
    }

    /// The offset in bytes of a member in `structure`; `path` leads into structures within it: `ns.inum`.
    /// Members of unnamed structures and unions are found as C finds them.
    pub fn offset(&self, structure: &str, path: &str) -> Option<u32> {
        let mut current =
            self.all().find(|t| t.kind == kind::STRUCT && self.name(t.name) == Some(structure))?;
        let mut bits = 0_u32;
        for (level, name) in path.split('.').enumerate() {
            if level > 0 {
                current = self.resolve(current)?;
            }
            let (offset, member) = self.member(current, name, DEPTH, &mut HashSet::new())?;
            bits = bits.checked_add(offset)?;
            current = member;
        }
        bits.is_multiple_of(8).then_some(bits / 8)
    }

    /// The names of an enumeration's values.
    pub fn enumerators(&self, enumeration: &str) -> Option<HashMap<u32, String>> {
        let found = self.all().find(|t| t.kind == kind::ENUM && self.name(t.name) == Some(enumeration))?;
        (0..found.count)
            .map(|index| {
                let at = found.at + 12 + index * 8;
                let name = self.name(read_u32(&self.bytes, at)?)?;
                Some((read_u32(&self.bytes, at + 4)?, name.to_owned()))
            })
            .collect()
    }

    /// The number of parameters of the function that the type definition `name` points to.
    pub fn parameters(&self, name: &str) -> Option<usize> {
        let definition = self.all().find(|t| t.kind == kind::TYPEDEF && self.name(t.name) == Some(name))?;
        let pointer = self.resolve(definition).filter(|t| t.kind == kind::POINTER)?;
        let function = self.resolve(self.by_id(pointer.refers_to)?)?;
        (function.kind == kind::FUNCTION_PROTOTYPE).then_some(function.count)
    }

    fn all(&self) -> impl Iterator<Item = Type> {
        self.types.iter().filter_map(|&at| describe(&self.bytes, at))
    }

    fn by_id(&self, id: u32) -> Option<Type> {
        let index = (id as usize).checked_sub(1)?;
        describe(&self.bytes, *self.types.get(index)?)
    }

    /// Through type definitions and qualifiers to what they stand for.
    fn resolve(&self, mut of: Type) -> Option<Type> {
        for _ in 0..DEPTH {
            match of.kind {
                kind::TYPEDEF | kind::VOLATILE | kind::CONST | kind::RESTRICT | kind::TYPE_TAG => {
                    of = self.by_id(of.refers_to)?;
                }
                _ => return Some(of),
            }
        }
        None
    }

    /// Offset in bits and type of a member, also of one within unnamed members. `searched` has where the types lie that
    /// need no second look: in a damaged file each of two unnamed members may hold the other's type, and so on.
    fn member(&self, of: Type, name: &str, depth: u32, searched: &mut HashSet<usize>) -> Option<(u32, Type)> {
        if depth == 0 || !matches!(of.kind, kind::STRUCT | kind::UNION) || !searched.insert(of.at) {
            return None;
        }
        for index in 0..of.count {
            let at = of.at + 12 + index * 12;
            let member_name = self.name(read_u32(&self.bytes, at)?)?;
            let Some(member) = self.by_id(read_u32(&self.bytes, at + 4)?) else { continue };
            let raw = read_u32(&self.bytes, at + 8)?;
            let offset = if of.bit_fields { raw & 0x00ff_ffff } else { raw };
            if member_name == name {
                return Some((offset, member));
            }
            if member_name.is_empty()
                && let Some((within, found)) =
                    self.resolve(member).and_then(|inner| self.member(inner, name, depth - 1, searched))
            {
                return Some((offset.checked_add(within)?, found));
            }
        }
        None
    }

    fn name(&self, offset: u32) -> Option<&str> {
        let strings = self.bytes.get(self.strings.clone())?;
        let rest = strings.get(offset as usize..)?;
        let end = rest.iter().position(|&b| b == 0)?;
        std::str::from_utf8(&rest[..end]).ok()
    }
}

impl Type {
    /// Bytes of the whole description; None for a kind that this kernel document does not know.
    fn length(&self) -> Option<usize> {
        let more = match self.kind {
            kind::INT | kind::VARIABLE | kind::DECLARATION_TAG => 4,
            kind::ARRAY => 12,
            kind::STRUCT | kind::UNION | kind::DATA_SECTION | kind::ENUM64 => self.count * 12,
            kind::ENUM | kind::FUNCTION_PROTOTYPE => self.count * 8,
            0 => return None,
            other if other <= kind::LAST => 0,
            _ => return None,
        };
        Some(12 + more)
    }
}

fn describe(bytes: &[u8], at: usize) -> Option<Type> {
    let info = read_u32(bytes, at.checked_add(4)?)?;
    Some(Type {
        at,
        name: read_u32(bytes, at)?,
        kind: (info >> 24) & 0x1f,
        count: (info & 0xffff) as usize,
        bit_fields: info >> 31 == 1,
        refers_to: read_u32(bytes, at.checked_add(8)?)?,
    })
}

fn read_u32(bytes: &[u8], at: usize) -> Option<u32> {
    let end = at.checked_add(4)?;
    Some(u32::from_ne_bytes(bytes.get(at..end)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes BTF: types as words, and strings.
    fn written(types: &[u32], strings: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(MAGIC.to_ne_bytes());
        bytes.extend([1, 0]);
        let length = types.len() as u32 * 4;
        for word in [24, 0, length, length, strings.len() as u32] {
            bytes.extend(word.to_ne_bytes());
        }
        bytes.extend(types.iter().flat_map(|word| word.to_ne_bytes()));
        bytes.extend(strings);
        bytes
    }

    /// `typedef struct { int net; } inner; struct outer { int a; union { int b; inner c; }; }; enum e { one = 1, two }`
    fn example() -> Vec<u8> {
        let strings = b"\0int\0net\0inner\0outer\0a\0b\0c\0e\0one\0two\0";
        let kind = |kind: u32, count: u32| kind << 24 | count;
        let types = [
            &[1, kind(kind::INT, 0), 4, 32][..],                 // 1: int
            &[0, kind(kind::STRUCT, 1), 4, 5, 1, 0],             // 2: struct { int net; }
            &[9, kind(kind::TYPEDEF, 0), 2],                     // 3: inner
            &[0, kind(kind::UNION, 2), 4, 23, 1, 0, 25, 3, 0],   // 4: union { int b; inner c; }
            &[15, kind(kind::STRUCT, 2), 8, 21, 1, 0, 0, 4, 32], // 5: outer
            &[27, kind(kind::ENUM, 2), 4, 29, 1, 33, 2],         // 6: e
        ]
        .concat();
        written(&types, strings)
    }

    #[test]
    fn members_within_unnamed_unions_and_through_definitions() {
        let btf = Btf::parse(example()).unwrap();
        assert_eq!(btf.offset("outer", "a"), Some(0));
        assert_eq!(btf.offset("outer", "b"), Some(4));
        assert_eq!(btf.offset("outer", "c.net"), Some(4));
        assert_eq!(btf.offset("outer", "d"), None);
        assert_eq!(btf.offset("outer", "a.b"), None);
        assert_eq!(btf.offset("inner", "net"), None, "a definition is no structure");
        let names = btf.enumerators("e").unwrap();
        assert_eq!((names[&1].as_str(), names[&2].as_str()), ("one", "two"));
    }

    #[test]
    fn the_running_kernels() {
        let Ok(bytes) = std::fs::read(KERNEL) else {
            eprintln!("SKIPPED: this kernel has no {KERNEL}");
            return;
        };
        let btf = Btf::parse(bytes).unwrap();
        assert_eq!(btf.enumerators("skb_drop_reason").unwrap()[&3], "SKB_DROP_REASON_NO_SOCKET");
        assert_eq!(btf.offset("list_head", "prev"), Some(8));
        assert!(btf.offset("net", "ns.inum").is_some());
        assert!(btf.parameters("btf_trace_kfree_skb").unwrap() >= 3);
    }

    fn ask(bytes: Vec<u8>) {
        if let Ok(btf) = Btf::parse(bytes) {
            let _ = btf.offset("outer", "c.net");
            let _ = btf.enumerators("e");
            let _ = btf.parameters("inner");
        }
    }

    #[test]
    fn types_that_contain_themselves_end() {
        let kind = |kind: u32, count: u32| kind << 24 | count;
        // 1: typedef of itself; 2: struct outer whose unnamed member is itself.
        let types = [&[1, kind(kind::TYPEDEF, 0), 1][..], &[7, kind(kind::STRUCT, 1), 4, 0, 2, 0]].concat();
        let btf = Btf::parse(written(&types, b"\0inner\0outer\0")).unwrap();
        assert_eq!(btf.offset("outer", "a"), None);
        assert_eq!(btf.parameters("inner"), None);
    }

    #[test]
    fn a_type_met_on_many_ways_is_searched_once() {
        let kind = |kind: u32, count: u32| kind << 24 | count;
        // struct outer with two unnamed members that are itself: 2^32 ways of 32 levels.
        let types = [1, kind(kind::STRUCT, 2), 4, 0, 1, 0, 0, 1, 0];
        let btf = Btf::parse(written(&types, b"\0outer\0")).unwrap();
        assert_eq!(btf.offset("outer", "a"), None);
    }

    proptest::proptest! {
        #[test]
        fn garbage_is_no_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            ask(bytes);
        }

        #[test]
        fn damage_is_no_panic(at in 0_usize..300, with in proptest::num::u32::ANY, cut in 0_usize..300) {
            let mut bytes = example();
            let at = at.min(bytes.len() - 4);
            bytes[at..at + 4].copy_from_slice(&with.to_ne_bytes());
            bytes.truncate(bytes.len().saturating_sub(cut % bytes.len()));
            ask(bytes);
        }
    }
}
