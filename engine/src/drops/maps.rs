//! The shared plain data as keys and values of eBPF maps.
#![expect(unsafe_code, reason = "aya takes only what promises to be plain data")]

use wirerate_ebpf_types::{drops, generate, replicate, sink, steer};

macro_rules! plain {
    ($($(#[$doc:meta])* $name:ident($inner:ty);)*) => {$(
        $(#[$doc])*
        #[repr(transparent)]
        #[derive(Debug, Clone, Copy)]
        pub(crate) struct $name(pub $inner);

        // SAFETY: the inner type is repr(C) of integers without padding (its size is asserted where it is
        // defined), Copy and 'static, and any bytes are a value of it.
        unsafe impl aya::Pod for $name {}
    )*};
}

plain! {
    /// Key of the drop map.
    DropKey(drops::DropKey);
    /// Value of the drop map.
    DropValue(drops::DropCount);
    /// Key of the map of interfaces.
    DeviceKey(drops::DeviceKey);
    /// Key of the map of watched destinations.
    Destination(drops::Destination);
    /// What the programs must know of the kernel.
    Layout(drops::Layout);
    /// What the packets of a flow have in common.
    Template(generate::Template);
    /// How far a generator has come.
    Progress(generate::Progress);
    /// What the interface did with a generator's packets.
    Taken(generate::Taken);
    /// Key of the replicator's groups.
    GroupKey(replicate::GroupKey);
    /// Where a group goes.
    Way(replicate::Way);
    /// What an interface did with copies.
    Transmitted(replicate::Transmitted);
    /// Key of the rule map.
    RuleKey(steer::RuleKey);
    /// Value of the counter array.
    SteerValue(steer::Count);
    /// A stream of the sink.
    SinkStream(sink::Stream);
    /// What a CPU counted for the sink.
    SinkShare(sink::Share);
}
