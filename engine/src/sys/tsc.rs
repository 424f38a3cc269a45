//! The CPU's time stamp counter, where it counts evenly whatever the CPU does.

/// The counter of x86-64.
#[derive(Debug, Clone, Copy)]
pub struct Counter(());

#[cfg(target_arch = "x86_64")]
impl Counter {
    /// The counter, where it is invariant: CPUID 8000_0007h EDX bit 8 (AMD64 APM volume 3, appendix E.4.6; Intel SDM volume 3,
    /// §18.17.1). A hypervisor that moves guests hides the bit.
    pub fn find() -> Option<Self> {
        use std::arch::x86_64::__cpuid;
        const POWER: u32 = 0x8000_0007;
        let invariant = __cpuid(0x8000_0000).eax >= POWER && __cpuid(POWER).edx & (1 << 8) != 0;
        invariant.then_some(Self(()))
    }

    /// Ticks. The CPU may read it some instructions early or late.
    #[inline]
    pub fn read(self) -> u64 {
        // SAFETY: every x86-64 CPU has the instruction; no memory is involved.
        unsafe { std::arch::x86_64::_rdtsc() }
    }
}

#[cfg(not(target_arch = "x86_64"))]
impl Counter {
    /// None here: `CLOCK_TAI` is read from the vDSO.
    pub fn find() -> Option<Self> {
        None
    }

    /// Never called: there is no counter to call it on.
    pub fn read(self) -> u64 {
        0
    }
}
