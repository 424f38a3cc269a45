//! Descriptions of the kernel's types: no bytes panic, and every question has an answer in time.

use wirerate_engine::drops::btf::Btf;

/// Reads `bytes` and asks what the drop programs ask.
pub fn check(bytes: &[u8]) {
    let Ok(btf) = Btf::parse(bytes.to_vec()) else { return };
    for (structure, path) in [("outer", "c.net"), ("outer", "a"), ("sk_buff", "dev"), ("net", "ns.inum")] {
        let _ = btf.offset(structure, path);
    }
    for name in ["e", "skb_drop_reason"] {
        let _ = btf.enumerators(name);
    }
    for name in ["inner", "btf_trace_kfree_skb"] {
        let _ = btf.parameters(name);
    }
}
