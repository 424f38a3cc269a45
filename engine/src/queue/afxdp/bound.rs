//! The program `steer` bound to its device: it asks the driver when the NIC had a packet (`bpf_xdp_metadata_rx_timestamp`).
//!
//! That is a function of the kernel for programs that are bound to a device (BPF_F_XDP_DEV_BOUND_ONLY), of which aya knows neither. So aya makes the maps,
//! and the program is taken from the object anew, with aya's own parser, tied to those maps, and loaded by the system call. Where it calls the function it has the
//! number of a helper that no kernel has, in a branch that is dead in every other program: here the number of the kernel's function stands in its place.
#![forbid(unsafe_code)]

use std::collections::HashSet;
use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

use aya::Ebpf;
use aya::maps::{Map, MapData};
use aya::programs::ProgramError;
use aya::sys::SyscallError;
use aya_obj::Object;
use aya_obj::btf::{Btf, BtfKind};
use aya_obj::generated::{BPF_CALL, BPF_JMP, BPF_PSEUDO_KFUNC_CALL, bpf_insn};
use wirerate_ebpf_types::steer::RX_TIMESTAMP;

use super::steer::refused;
use crate::drops::object::OBJECT;
use crate::error::{Error, Result};
use crate::queue::spec::Interface;
use crate::sys::bpf;

/// The function of the kernel.
const FUNCTION: &str = "bpf_xdp_metadata_rx_timestamp";

/// The program, loaded and attached for as long as this lives.
#[derive(Debug)]
pub(super) struct Bound {
    _link: OwnedFd,
    _program: OwnedFd,
}

impl Bound {
    /// Takes `steer` with the maps of `ebpf`, and attaches it to `interface` in the driver.
    pub(super) fn attach(ebpf: &Ebpf, interface: &Interface) -> Result<Self> {
        let name = &interface.name;
        let (mut instructions, license) = instructions(ebpf)?;
        ask_the_driver(&mut instructions, number_of_function(name)?);
        let program =
            bpf::load_bound(c"steer", &instructions, &license, interface.index).map_err(|refused| {
                let said = refused
                    .log
                    .lines()
                    .rev()
                    .find(|line| !line.trim().is_empty() && !line.starts_with("processed "));
                let objection = said.map_or(String::new(), |line| format!(": the verifier objects: {line}"));
                unusable(
                    name,
                    &format!(
                        "the kernel takes no program that asks the driver for the NIC's stamp{objection}"
                    ),
                )
                .because(refused.source)
            })?;
        let link = bpf::link_native(program.as_fd(), interface.index).map_err(|io_error| {
            refused(name, &ProgramError::SyscallError(SyscallError { call: "bpf_link_create", io_error }))
        })?;
        Ok(Self { _link: link, _program: program })
    }
}

fn unusable(name: &str, why: &str) -> Error {
    Error::environment(format!("--timestamps nic: {name}: {why}"))
        .fix("use --backend mmsg, or --timestamps kernel")
}

/// The number of the function in the kernel's BTF.
fn number_of_function(name: &str) -> Result<i32> {
    let btf = Btf::from_sys_fs()
        .map_err(|error| unusable(name, &format!("the kernel does not describe its functions: {error}")))?;
    let number = btf.id_by_type_name_kind(FUNCTION, BtfKind::Func).ok();
    number.and_then(|number| i32::try_from(number).ok()).ok_or_else(|| {
        unusable(name, "the kernel has no way to ask the driver for the NIC's stamp (Linux 6.3)")
    })
}

/// The instructions of `steer` with the maps of `ebpf`, and the licence.
fn instructions(ebpf: &Ebpf) -> Result<(Vec<bpf_insn>, CString)> {
    let failed = |what: &dyn std::fmt::Display| Error::failed(format!("eBPF program steer: {what}"));
    let mut object = Object::parse(OBJECT).map_err(|error| failed(&error))?;
    let sections: HashSet<usize> = object.functions.keys().map(|(section, _)| *section).collect();
    let definitions = object.maps.clone();
    let maps: Vec<(&str, RawFd, &aya_obj::Map)> = ebpf
        .maps()
        .filter_map(|(name, map)| Some((name, data(map)?.fd().as_fd().as_raw_fd(), definitions.get(name)?)))
        .collect();
    object.programs.retain(|name, _| name == "steer");
    let program = object.programs.values().next().ok_or_else(|| failed(&"is not in the object"))?;
    let (key, license) = (program.function_key(), program.license.clone());
    object.relocate_maps(maps.into_iter(), &sections).map_err(|error| failed(&error))?;
    object.relocate_calls(&sections).map_err(|error| failed(&error))?;
    let function = object.functions.get(&key).ok_or_else(|| failed(&"has no instructions"))?;
    Ok((function.instructions.clone(), license))
}

/// What aya holds of a map of one of the kinds that the object has.
fn data(map: &Map) -> Option<&MapData> {
    match map {
        Map::Array(data)
        | Map::HashMap(data)
        | Map::LruHashMap(data)
        | Map::PerCpuArray(data)
        | Map::PerCpuHashMap(data)
        | Map::DevMap(data)
        | Map::DevMapHash(data)
        | Map::XskMap(data)
        | Map::RingBuf(data)
        | Map::ProgramArray(data)
        | Map::HashOfMaps(data)
        | Map::ArrayOfMaps(data)
        | Map::Unsupported(data) => Some(data),
        _ => None,
    }
}

/// Puts the call of the kernel's function `number` where the program has the placeholder. Returns how many there were.
fn ask_the_driver(instructions: &mut [bpf_insn], number: i32) -> usize {
    let mut found = 0;
    for instruction in instructions {
        let is_call = u32::from(instruction.code) == BPF_JMP | BPF_CALL && instruction.src_reg() == 0;
        if is_call && instruction.imm == RX_TIMESTAMP {
            instruction.set_src_reg(BPF_PSEUDO_KFUNC_CALL as u8);
            (instruction.off, instruction.imm) = (0, number);
            found += 1;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_placeholder_is_in_the_object_once_and_only_it_is_replaced() {
        let object = Object::parse(OBJECT).unwrap();
        let key = object.programs["steer"].function_key();
        let mut instructions = object.functions[&key].instructions.clone();
        let before = instructions.clone();
        assert_eq!(ask_the_driver(&mut instructions, 4711), 1);
        let changed: Vec<_> =
            before.iter().zip(&instructions).filter(|(a, b)| bytes(a) != bytes(b)).collect();
        let [(_, call)] = changed[..] else { panic!("{} instructions changed", changed.len()) };
        assert_eq!((call.code, call.src_reg(), call.off, call.imm), (0x85, 2, 0, 4711));
        assert_eq!(ask_the_driver(&mut instructions, 4711), 0);
    }

    fn bytes(i: &bpf_insn) -> (u8, u8, u8, i16, i32) {
        (i.code, i.dst_reg(), i.src_reg(), i.off, i.imm)
    }
}
